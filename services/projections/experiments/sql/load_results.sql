-- Of these results, those that are there. By the order of keys, which one index only has: while a table is filled for the
-- first time, and nothing is known of it yet, the others look as good, and would read a whole run for each result.
SELECT told.project_id, told.run_id, told.item_id, told.repetition
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS told (project_id, run_id, item_id, repetition)
CROSS JOIN LATERAL (
    SELECT project_id, run_id, item_id, repetition FROM experiment_items AS item
    WHERE
        (item.project_id, item.run_id, item.item_id, item.repetition)
        >= (told.project_id, told.run_id, told.item_id, told.repetition)
    ORDER BY item.project_id, item.run_id, item.item_id, item.repetition
    LIMIT 1
) AS next
WHERE
    (next.project_id, next.run_id, next.item_id, next.repetition)
    = (told.project_id, told.run_id, told.item_id, told.repetition)
