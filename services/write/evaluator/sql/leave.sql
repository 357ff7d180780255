-- A worker that ends leaves everything to the others, at once. Results are told by whoever comes first.
WITH mine AS (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE owner = $1 AND state IN (1, 2)
    ORDER BY project_id, run_id, item_id, repetition
    FOR UPDATE
)
UPDATE evaluator.jobs SET
    state = CASE jobs.state WHEN 1 THEN 0 ELSE jobs.state END,
    owner = NULL,
    lease_until = CASE jobs.state WHEN 1 THEN NULL ELSE '-infinity'::timestamptz END,
    next_at = CASE jobs.state WHEN 1 THEN now() ELSE jobs.next_at END
FROM mine
WHERE
    jobs.project_id = mine.project_id AND jobs.run_id = mine.run_id
    AND jobs.item_id = mine.item_id AND jobs.repetition = mine.repetition
