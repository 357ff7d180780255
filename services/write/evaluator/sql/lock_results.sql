-- In key order, like all who lock several jobs.
SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, jobs.state
FROM evaluator.jobs
JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS told (project_id, run_id, item_id, repetition)
    USING (project_id, run_id, item_id, repetition)
ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
FOR UPDATE OF jobs
