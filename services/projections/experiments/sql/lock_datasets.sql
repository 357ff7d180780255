-- Locked in key order: should two processes have commands about one dataset all the same, they queue.
SELECT project_id, dataset_id, name, version, archived, item_count, created_at, changed_at
FROM datasets
WHERE (project_id, dataset_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY project_id, dataset_id
FOR UPDATE
