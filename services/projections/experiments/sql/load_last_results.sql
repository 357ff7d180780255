-- When the last result of each run was told. By the order of keys, as in load_results.sql.
SELECT run.project_id, run.run_id, last.finished_at
FROM unnest($1::text[], $2::text[]) AS run (project_id, run_id)
CROSS JOIN LATERAL (
    SELECT project_id, run_id, finished_at FROM experiment_items AS item
    WHERE (item.project_id, item.run_id, item.finished_at) <= (run.project_id, run.run_id, 'infinity')
    ORDER BY item.project_id DESC, item.run_id DESC, item.finished_at DESC
    LIMIT 1
) AS last
WHERE (last.project_id, last.run_id) = (run.project_id, run.run_id)
