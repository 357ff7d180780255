-- Back to the queue for later; $7: what is taken off the count of attempts.
UPDATE evaluator.jobs SET
    state = 0,
    owner = NULL,
    lease_until = NULL,
    next_at = now() + $6::interval,
    attempts = attempts - $7
WHERE project_id = $1 AND run_id = $2 AND item_id = $3 AND repetition = $4 AND fence = $5 AND owner = $8 AND state = 1
