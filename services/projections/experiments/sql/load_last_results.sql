-- When the last result of each run was told.
SELECT run.project_id, run.run_id, last.finished_at
FROM unnest($1::text[], $2::text[]) AS run (project_id, run_id)
CROSS JOIN LATERAL (
    SELECT finished_at FROM experiment_items AS item
    WHERE item.project_id = run.project_id AND item.run_id = run.run_id
    ORDER BY finished_at DESC
    LIMIT 1
) AS last
