-- A page of a dataset's items at one version, in the order in which they were first recorded. list_items.py puts in
-- conditions (the version among them) and limit.
SELECT
    items.first_version, items.item_id, items.input, items.expected_output, items.metadata, items.source_trace_id,
    items.source_span_id, items.splits, items.archived, items.version, items.created_at, items.changed_at, items.author
FROM dataset_items AS items
WHERE items.project_id = $1 AND items.dataset_id = $2 {conditions}
ORDER BY items.first_version
LIMIT {limit}
