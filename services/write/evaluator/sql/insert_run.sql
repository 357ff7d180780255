INSERT INTO evaluator.runs (
    project_id, run_id, request, state, requested_at, partition, asked_at, provider, providers,
    max_concurrency, ends_by, max_picodollars, outcome, reason
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (project_id, run_id) DO NOTHING
