SELECT project_id, subject_id, event_id
FROM experiment_events
WHERE (project_id, subject_id, event_id) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]))
