-- Runs to look at, for one worker at a time: the others wait some seconds. The first of each project comes before the
-- second of any.
UPDATE evaluator.runs SET look_at = now() + interval '5 seconds'
WHERE (project_id, run_id) IN (
    SELECT runs.project_id, runs.run_id
    FROM evaluator.runs
    JOIN (
        SELECT project_id, run_id, look_at, row_number() OVER (PARTITION BY project_id ORDER BY look_at) AS place
        FROM evaluator.runs
        WHERE state IN (1, 2) AND look_at <= now()
    ) AS turns USING (project_id, run_id)
    WHERE runs.state IN (1, 2) AND runs.look_at <= now()
    ORDER BY turns.place, turns.look_at
    LIMIT $1
    FOR UPDATE OF runs SKIP LOCKED
)
RETURNING project_id, run_id, request, state, partition, requested_at, planned, provider, providers, outcome, reason, told
