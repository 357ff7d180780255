SELECT project_id, name, label, version, previous_version
FROM prompt_labels
WHERE (project_id, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
