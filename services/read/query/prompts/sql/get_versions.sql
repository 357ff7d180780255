SELECT name, version, body
FROM prompt_versions
WHERE project_id = $1 AND (name, version) IN (SELECT * FROM unnest($2::text[], $3::integer[]))
