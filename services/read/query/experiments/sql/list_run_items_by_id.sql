-- A page of a run's items by their ids and repetitions. list_experiment_items.py puts in conditions and limit.
SELECT results.item_id, results.repetition, results.result
FROM experiment_items AS results
WHERE results.project_id = $1 AND results.run_id = $2 {conditions}
ORDER BY results.item_id, results.repetition
LIMIT {limit}
