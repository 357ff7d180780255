-- The first result of each item of a run over data that are in no dataset: they tell what was asked.
SELECT DISTINCT ON (item_id) item_id, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2
ORDER BY item_id, repetition
