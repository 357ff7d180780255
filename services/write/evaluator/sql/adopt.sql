-- Results that a worker which is silent has decided: they are told as they are.
UPDATE evaluator.jobs SET owner = $1, fence = fence + 1, lease_until = now() + $2::interval
WHERE (project_id, run_id, item_id, repetition) IN (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE state = 2 AND lease_until < now()
    ORDER BY lease_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING project_id, run_id, item_id, repetition, fence, told
