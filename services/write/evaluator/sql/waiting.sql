-- As far as anybody wants to know.
SELECT count(*)
FROM (
    SELECT
    FROM evaluator.runs
    JOIN evaluator.jobs USING (project_id, run_id)
    WHERE runs.state IN (1, 2) AND jobs.state = 0
    LIMIT 10000
) AS waiting
