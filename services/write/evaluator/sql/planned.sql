UPDATE evaluator.runs SET planned = true, look_at = now() WHERE project_id = $1 AND run_id = $2
