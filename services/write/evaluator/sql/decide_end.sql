-- The first who decides holds; all tell the same.
UPDATE evaluator.runs SET told = coalesce(told, $3::bytea[])
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2)
RETURNING told
