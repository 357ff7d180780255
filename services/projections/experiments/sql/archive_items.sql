-- Archived, and otherwise as before. By the order of keys, as in load_results.sql.
INSERT INTO dataset_items (
    project_id, dataset_id, item_id, version, until_version, first_version, archived,
    input, expected_output, metadata, source_trace_id, source_span_id, splits, author, created_at, changed_at
)
SELECT
    gone.project_id, gone.dataset_id, gone.item_id, gone.version, gone.until_version, before.first_version, TRUE,
    before.input, before.expected_output, before.metadata, before.source_trace_id, before.source_span_id, before.splits,
    gone.author, before.created_at, gone.changed_at
FROM
    unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::timestamptz[])
    AS gone (project_id, dataset_id, item_id, version, until_version, author, changed_at)
CROSS JOIN LATERAL (
    SELECT * FROM dataset_items AS item
    WHERE
        (item.project_id, item.dataset_id, item.item_id, item.version)
        < (gone.project_id, gone.dataset_id, gone.item_id, gone.version)
    ORDER BY item.project_id DESC, item.dataset_id DESC, item.item_id DESC, item.version DESC
    LIMIT 1
) AS before
WHERE (before.project_id, before.dataset_id, before.item_id) = (gone.project_id, gone.dataset_id, gone.item_id)
