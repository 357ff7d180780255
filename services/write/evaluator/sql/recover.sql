-- What a worker that is silent had under way waits again. Its fence refuses the worker, should it wake.
UPDATE evaluator.jobs SET state = 0, owner = NULL, lease_until = NULL, next_at = now()
WHERE (project_id, run_id, item_id, repetition) IN (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE state = 1 AND lease_until < now()
    ORDER BY lease_until
    LIMIT 500
    FOR UPDATE SKIP LOCKED
)
