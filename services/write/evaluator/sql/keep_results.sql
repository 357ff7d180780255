-- A job that is not planned yet is done before it begins.
INSERT INTO evaluator.jobs AS known (project_id, run_id, item_id, repetition, state)
SELECT told.project_id, told.run_id, told.item_id, told.repetition, 3
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS told (project_id, run_id, item_id, repetition)
ON CONFLICT (project_id, run_id, item_id, repetition) DO UPDATE SET
    state = 3,
    owner = NULL,
    lease_until = NULL,
    told = NULL
WHERE known.state < 3
