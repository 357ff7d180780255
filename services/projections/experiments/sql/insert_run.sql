INSERT INTO experiment_runs (
    project_id, run_id, state, reason, ended_at, run_evaluations, items_finished, items_failed,
    input_tokens, output_tokens, cost_picodollars, name, dataset_id, dataset_version, requested_at, request
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
