-- Only of runs that workers run and that have not ended; a job that is not planned yet is done before it begins.
INSERT INTO evaluator.jobs AS known (project_id, run_id, item_id, repetition, state)
SELECT project_id, run_id, told.item_id, told.repetition, 3
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS told (project_id, run_id, item_id, repetition)
JOIN evaluator.runs USING (project_id, run_id)
WHERE NOT runs.swept
ORDER BY project_id, run_id, told.item_id, told.repetition
ON CONFLICT (project_id, run_id, item_id, repetition) DO UPDATE SET
    state = 3,
    owner = NULL,
    lease_until = NULL,
    told = NULL
WHERE known.state < 3
