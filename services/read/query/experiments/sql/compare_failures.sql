-- The first failure of each item of a run that has one.
SELECT DISTINCT ON (item_id) item_id, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2 AND failed
ORDER BY item_id, repetition
LIMIT $3
