SELECT project_id, run_id, item_id, repetition
FROM experiment_items
WHERE (project_id, run_id, item_id, repetition) IN (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[])
)
