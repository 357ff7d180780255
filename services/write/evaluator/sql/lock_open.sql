-- Nothing is claimed of it meanwhile.
SELECT
    planned,
    coalesce(now() >= ends_by, false) AS late,
    coalesce(spent_picodollars >= max_picodollars, false) AS spent
FROM evaluator.runs
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND outcome = 0
FOR UPDATE
