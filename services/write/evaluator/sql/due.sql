-- Runs to look at, for one worker at a time: the others wait some seconds.
UPDATE evaluator.runs SET look_at = now() + interval '5 seconds'
WHERE (project_id, run_id) IN (
    SELECT project_id, run_id
    FROM evaluator.runs
    WHERE state IN (1, 2) AND look_at <= now()
    ORDER BY look_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
RETURNING project_id, run_id, request, state, partition, requested_at, planned, provider, providers, outcome, reason, told
