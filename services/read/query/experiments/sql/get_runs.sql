-- Runs by their ids, each with the dataset it is over as far as that is known.
SELECT
    runs.run_id, runs.dataset_id, runs.dataset_version, runs.state, runs.reason, runs.requested_at, runs.ended_at,
    runs.request, runs.run_evaluations, runs.items_finished, runs.items_failed, runs.input_tokens, runs.output_tokens,
    runs.cost_picodollars, datasets.name AS dataset_name, datasets.version AS dataset_now,
    datasets.item_count AS dataset_items
FROM experiment_runs AS runs
LEFT JOIN datasets ON datasets.project_id = $1 AND datasets.dataset_id = runs.dataset_id
WHERE runs.project_id = $1 AND runs.run_id = ANY($2::text[])
