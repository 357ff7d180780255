-- How far runs are, told briefly: asked a few times a second for all that are watched.
SELECT project_id, run_id, state, items_finished, ended_at
FROM experiment_runs
WHERE (project_id, run_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
