UPDATE evaluator.runs SET spent_picodollars = spent_picodollars + spent.picodollars
FROM unnest($1::text[], $2::text[], $3::numeric[]) AS spent (project_id, run_id, picodollars)
WHERE runs.project_id = spent.project_id AND runs.run_id = spent.run_id
