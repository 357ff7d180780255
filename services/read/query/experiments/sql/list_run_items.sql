-- A page of a run's items in the order of its dataset, by repetition. list_experiment_items.py puts in the dataset items'
-- columns, conditions (the dataset's version among them) and limit.
SELECT items.first_version, results.item_id, results.repetition, results.result {columns}
FROM dataset_items AS items
JOIN experiment_items AS results
    ON results.project_id = $1 AND results.run_id = $2 AND results.item_id = items.item_id
WHERE items.project_id = $1 AND items.dataset_id = $3 {conditions}
ORDER BY items.first_version, results.repetition
LIMIT {limit}
