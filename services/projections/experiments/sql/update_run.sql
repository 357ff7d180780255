UPDATE experiment_runs SET
    state = $3,
    reason = $4,
    ended_at = $5,
    run_evaluations = $6,
    items_finished = $7,
    items_failed = $8,
    input_tokens = $9,
    output_tokens = $10,
    cost_picodollars = $11
WHERE project_id = $1 AND run_id = $2
