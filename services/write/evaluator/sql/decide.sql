-- What a job came to, unless it is another's by now, or its run has ended. Who decided it already may say so again.
UPDATE evaluator.jobs SET state = 2, told = $6, lease_until = now() + $8::interval
FROM (
    SELECT held.project_id, held.run_id, held.item_id, held.repetition, held.state AS before
    FROM evaluator.jobs AS held
    JOIN evaluator.runs USING (project_id, run_id)
    WHERE
        held.project_id = $1 AND held.run_id = $2 AND held.item_id = $3 AND held.repetition = $4
        AND held.fence = $5 AND held.owner = $7
        AND (held.state = 2 OR held.state = 1 AND runs.state IN (1, 2))
    FOR UPDATE OF held
) AS mine
WHERE
    jobs.project_id = mine.project_id AND jobs.run_id = mine.run_id
    AND jobs.item_id = mine.item_id AND jobs.repetition = mine.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, mine.before
