-- Some results of a run: those that were told first, and last.
(
    SELECT result FROM experiment_items WHERE project_id = $1 AND run_id = $2
    ORDER BY finished_at, item_id, repetition LIMIT $3
)
UNION ALL
(
    SELECT result FROM experiment_items WHERE project_id = $1 AND run_id = $2
    ORDER BY finished_at DESC, item_id DESC, repetition DESC LIMIT $3
)
