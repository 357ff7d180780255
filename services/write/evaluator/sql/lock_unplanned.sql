SELECT 1 FROM evaluator.runs
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND NOT planned AND outcome = 0
FOR UPDATE
