-- Locked in key order, after the datasets.
SELECT
    project_id, run_id, state, reason, requested_at, ended_at, run_evaluations,
    items_finished, items_failed, input_tokens, output_tokens, cost_picodollars
FROM experiment_runs
WHERE (project_id, run_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY project_id, run_id
FOR UPDATE
