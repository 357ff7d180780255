-- These items as they are: the last version of each. By the order of keys, as in load_results.sql.
SELECT last.*
FROM unnest($1::text[], $2::text[], $3::text[]) AS told (project_id, dataset_id, item_id)
CROSS JOIN LATERAL (
    SELECT
        project_id, dataset_id, item_id, version, first_version, archived, input, expected_output, metadata,
        source_trace_id, source_span_id, splits, created_at
    FROM dataset_items AS item
    WHERE
        (item.project_id, item.dataset_id, item.item_id, item.version)
        < (told.project_id, told.dataset_id, told.item_id, 9223372036854775807)
    ORDER BY item.project_id DESC, item.dataset_id DESC, item.item_id DESC, item.version DESC
    LIMIT 1
) AS last
WHERE (last.project_id, last.dataset_id, last.item_id) = (told.project_id, told.dataset_id, told.item_id)
