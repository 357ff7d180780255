-- Hold on to what is ours: jobs that we work on, unless their run has ended, and results that we have to tell.
WITH held AS (
    SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FROM evaluator.jobs
    JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
        AS mine (project_id, run_id, item_id, repetition, fence)
        USING (project_id, run_id, item_id, repetition, fence)
    JOIN evaluator.runs USING (project_id, run_id)
    WHERE jobs.owner = $6 AND (jobs.state = 2 OR jobs.state = 1 AND runs.state IN (1, 2))
    ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FOR UPDATE OF jobs
)
UPDATE evaluator.jobs SET lease_until = now() + $7::interval
FROM held
WHERE
    jobs.project_id = held.project_id AND jobs.run_id = held.run_id
    AND jobs.item_id = held.item_id AND jobs.repetition = held.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
