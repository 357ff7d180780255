SELECT
    EXISTS (
        SELECT FROM evaluator.jobs WHERE project_id = $1 AND run_id = $2 AND state = 0
    ) AS waiting,
    EXISTS (
        SELECT FROM evaluator.jobs WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2)
    ) AS under_way
