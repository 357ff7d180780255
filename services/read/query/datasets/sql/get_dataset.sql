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
