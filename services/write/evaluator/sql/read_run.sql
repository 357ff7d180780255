SELECT request FROM evaluator.runs WHERE project_id = $1 AND run_id = $2
