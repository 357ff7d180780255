WITH forgotten AS (DELETE FROM evaluator.run_events WHERE project_id = $1 AND run_id = $2)
UPDATE evaluator.runs SET state = $3, told = NULL
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND asked_at < $4
