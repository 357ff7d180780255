-- A page of a dataset's changes, newest first, each with what its item was made to. dataset_history.py puts in conditions
-- and limit.
SELECT
    changes.version AS change_version, changes.kind, changes.author AS change_author, changes.changed_at AS change_at,
    items.item_id, items.input, items.expected_output, items.metadata, items.source_trace_id, items.source_span_id,
    items.splits, items.archived, items.version, items.created_at, items.changed_at, items.author
FROM (
    SELECT version, kind, item_id, author, changed_at
    FROM dataset_changes
    WHERE project_id = $1 AND dataset_id = $2 {conditions}
    ORDER BY version DESC
    LIMIT {limit}
) AS changes
LEFT JOIN LATERAL (
    SELECT *
    FROM dataset_items
    WHERE project_id = $1 AND dataset_id = $2 AND item_id = changes.item_id AND version = changes.version
    LIMIT 1 -- one by one by its key, whatever is known of the table
) AS items ON true
ORDER BY changes.version DESC
