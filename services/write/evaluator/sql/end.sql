-- How it will be told to have ended; nothing of it begins any more.
UPDATE evaluator.runs SET outcome = $3, reason = $4, look_at = now()
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND outcome = 0
