-- The names under which evaluators said something of items of runs.
SELECT DISTINCT name FROM experiment_evaluations WHERE project_id = $1 AND run_id = ANY($2::text[])
