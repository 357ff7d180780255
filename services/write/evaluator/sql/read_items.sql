-- The dataset's items of jobs, at their runs' versions.
SELECT wanted.project_id, wanted.run_id, wanted.item_id, items.input, items.expected_output, items.metadata
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS wanted (project_id, run_id, item_id, dataset_id, version)
JOIN experiments.dataset_items AS items
    ON items.project_id = wanted.project_id AND items.dataset_id = wanted.dataset_id
    AND items.item_id = wanted.item_id
    AND items.version <= wanted.version AND (items.until_version IS NULL OR items.until_version > wanted.version)
