-- A page of runs, newest first. list_experiments.py puts in conditions and limit.
SELECT
    runs.run_id, runs.dataset_id, runs.dataset_version, runs.state, runs.reason, runs.requested_at, runs.ended_at,
    runs.request, runs.run_evaluations, runs.items_finished, runs.items_failed, runs.input_tokens, runs.output_tokens,
    runs.cost_picodollars, datasets.name AS dataset_name, datasets.version AS dataset_now,
    datasets.item_count AS dataset_items
FROM (
    SELECT * FROM experiment_runs WHERE project_id = $1 {conditions} ORDER BY requested_at DESC, run_id DESC LIMIT {limit}
) AS runs
LEFT JOIN datasets ON datasets.project_id = $1 AND datasets.dataset_id = runs.dataset_id
ORDER BY runs.requested_at DESC, runs.run_id DESC
