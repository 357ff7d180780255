-- Take so many jobs of each run, and with each the next number of its fence.
WITH picked AS (
    SELECT ready.project_id, ready.run_id, ready.item_id, ready.repetition
    FROM unnest($1::text[], $2::text[], $3::integer[]) AS share (project_id, run_id, size)
    CROSS JOIN LATERAL (
        SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
        FROM evaluator.jobs
        WHERE
            jobs.project_id = share.project_id AND jobs.run_id = share.run_id AND jobs.state = 0
            AND jobs.next_at <= now()
        ORDER BY jobs.next_at, jobs.ordinal
        LIMIT share.size
        FOR UPDATE SKIP LOCKED
    ) AS ready
), served AS (
    UPDATE evaluator.runs SET served_at = clock_timestamp()
    FROM (SELECT DISTINCT project_id, run_id FROM picked) AS its
    WHERE runs.project_id = its.project_id AND runs.run_id = its.run_id
)
UPDATE evaluator.jobs SET
    state = 1,
    owner = $4,
    fence = jobs.fence + 1,
    attempts = jobs.attempts + 1,
    lease_until = now() + $5::interval
FROM picked
WHERE
    jobs.project_id = picked.project_id AND jobs.run_id = picked.run_id
    AND jobs.item_id = picked.item_id AND jobs.repetition = picked.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, jobs.fence, jobs.attempts
