-- Reads of datasets, of their items and of their history.

-- name: find_dataset
-- A dataset as it is now.
SELECT dataset_id, name, version, created_at FROM datasets WHERE project_id = $1 AND name = $2

-- name: list_names
-- Names of datasets, to say which there are.
SELECT name FROM datasets WHERE project_id = $1 AND NOT archived ORDER BY name LIMIT 1000

-- name: version_at
-- The last version of a dataset that was decided at or before an instant.
SELECT version FROM dataset_changes
WHERE project_id = $1 AND dataset_id = $2 AND changed_at <= $3
ORDER BY changed_at DESC, version DESC
LIMIT 1

-- name: get_dataset
-- A dataset at a version: how it was described, and what it held.
WITH held AS (
    SELECT splits, count(*) AS items
    FROM dataset_items
    WHERE
        project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
        AND NOT archived
    GROUP BY splits
)
SELECT
    described.archived, described.description, described.metadata, described.input_schema,
    described.expected_output_schema, changes.changed_at,
    (SELECT coalesce(sum(items), 0)::bigint FROM held) AS item_count,
    ARRAY(SELECT DISTINCT split COLLATE "C" FROM held, unnest(splits) AS split ORDER BY 1) AS splits,
    (SELECT count(*) FROM experiment_runs WHERE project_id = $1 AND dataset_id = $2) AS run_count
FROM dataset_descriptions AS described
JOIN dataset_changes AS changes
    ON changes.project_id = $1 AND changes.dataset_id = $2 AND changes.version = $3
WHERE
    described.project_id = $1 AND described.dataset_id = $2 AND described.version <= $3
    AND (described.until_version IS NULL OR described.until_version > $3)

-- name: list_datasets
-- A page of datasets as they are, by name. Conditions and limit are put in.
SELECT
    page.dataset_id, page.name, page.version, page.archived, page.item_count, page.created_at, page.changed_at,
    described.description, described.metadata, described.input_schema, described.expected_output_schema,
    ARRAY(
        SELECT DISTINCT split COLLATE "C"
        FROM (
            SELECT DISTINCT splits
            FROM dataset_items
            WHERE project_id = $1 AND dataset_id = page.dataset_id AND until_version IS NULL AND NOT archived
        ) AS held, unnest(splits) AS split
        ORDER BY 1
    ) AS splits,
    (SELECT count(*) FROM experiment_runs WHERE project_id = $1 AND dataset_id = page.dataset_id) AS run_count
FROM (
    SELECT * FROM datasets WHERE project_id = $1 {conditions} ORDER BY name LIMIT {limit}
) AS page
CROSS JOIN LATERAL (
    SELECT description, metadata, input_schema, expected_output_schema
    FROM dataset_descriptions
    WHERE project_id = $1 AND dataset_id = page.dataset_id
    ORDER BY version DESC
    LIMIT 1
) AS described
ORDER BY page.name

-- name: list_items
-- A page of a dataset's items at one version, in the order in which they were first recorded. Conditions
-- (the version among them) and limit are put in.
SELECT
    items.first_version, items.item_id, items.input, items.expected_output, items.metadata, items.source_trace_id,
    items.source_span_id, items.splits, items.archived, items.version, items.created_at, items.changed_at, items.author
FROM dataset_items AS items
WHERE items.project_id = $1 AND items.dataset_id = $2 {conditions}
ORDER BY items.first_version
LIMIT {limit}

-- name: dataset_history
-- A page of a dataset's changes, newest first, each with what its item was made to.
-- Conditions and limit are put in.
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
