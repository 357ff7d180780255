-- The log has these results. Whose runs have nothing left are looked at now.
WITH mine AS (
    SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FROM evaluator.jobs
    JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS its (project_id, run_id, item_id, repetition)
        USING (project_id, run_id, item_id, repetition)
    WHERE jobs.state = 2
    ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FOR UPDATE OF jobs
)
UPDATE evaluator.jobs SET state = 3, told = NULL, owner = NULL, lease_until = NULL
FROM mine
WHERE
    jobs.project_id = mine.project_id AND jobs.run_id = mine.run_id
    AND jobs.item_id = mine.item_id AND jobs.repetition = mine.repetition
