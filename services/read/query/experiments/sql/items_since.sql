-- The results of a run that were told after an instant, in the order of the log: no two are of the same instant.
SELECT finished_at, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2 AND finished_at > $3
ORDER BY finished_at
LIMIT $4
