SELECT
    project_id, dataset_id, item_id, version, first_version, archived, input, expected_output, metadata,
    source_trace_id, source_span_id, splits, created_at
FROM dataset_items
WHERE
    until_version IS NULL
    AND (project_id, dataset_id, item_id) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))
