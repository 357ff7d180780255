UPDATE evaluator.runs SET look_at = now() + $3::interval
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2)
