-- The last version of a dataset that was decided at or before an instant.
SELECT version FROM dataset_changes
WHERE project_id = $1 AND dataset_id = $2 AND changed_at <= $3
ORDER BY changed_at DESC, version DESC
LIMIT 1
