-- A dataset as it is now.
SELECT dataset_id, name, version, created_at FROM datasets WHERE project_id = $1 AND name = $2
