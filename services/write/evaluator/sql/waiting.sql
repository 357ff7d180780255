SELECT count(*)
FROM evaluator.runs
JOIN evaluator.jobs USING (project_id, run_id)
WHERE runs.state IN (1, 2) AND jobs.state = 0
