-- What is left of runs that have ended; results that are decided are told first.
WITH ended AS (
    SELECT project_id, run_id FROM evaluator.runs WHERE state > 2 AND NOT swept LIMIT 16
), gone AS (
    DELETE FROM evaluator.jobs WHERE (project_id, run_id, item_id, repetition) IN (
        SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
        FROM evaluator.jobs
        JOIN ended USING (project_id, run_id)
        WHERE jobs.state <> 2
        LIMIT 5000
        FOR UPDATE OF jobs SKIP LOCKED
    )
)
UPDATE evaluator.runs SET swept = true
FROM ended
WHERE
    runs.project_id = ended.project_id AND runs.run_id = ended.run_id
    AND NOT EXISTS (
        SELECT FROM evaluator.jobs WHERE jobs.project_id = runs.project_id AND jobs.run_id = runs.run_id
    )
