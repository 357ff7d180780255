-- Results that the log has and the read model has not yet.
SELECT count(*)
FROM evaluator.jobs
LEFT JOIN experiments.experiment_items AS results USING (project_id, run_id, item_id, repetition)
WHERE jobs.project_id = $1 AND jobs.run_id = $2 AND jobs.state = 3 AND results.item_id IS NULL
