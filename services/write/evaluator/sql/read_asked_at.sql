-- Of runs that workers run and that are not over and done with.
SELECT runs.project_id, runs.run_id, runs.asked_at
FROM evaluator.runs
JOIN unnest($1::text[], $2::text[]) AS its (project_id, run_id) USING (project_id, run_id)
WHERE NOT runs.swept
