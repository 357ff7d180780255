-- What the gateway looks up of experiment runs before it takes writes to them.

-- name: find_runs
-- Those of some runs that there are.
SELECT run_id FROM experiment_runs WHERE project_id = $1 AND run_id = ANY($2)

-- name: find_run
-- A run as it was requested, and its state.
SELECT request, state FROM experiment_runs WHERE project_id = $1 AND run_id = $2

-- name: find_run_of_same_name
-- Another run of this name over any version of a dataset.
SELECT run_id FROM experiment_runs WHERE project_id = $1 AND dataset_id = $2 AND name = $3 AND run_id <> $4 LIMIT 1
