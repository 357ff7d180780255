-- What the gateway looks up of datasets before it takes writes to them.

-- name: find_dataset
-- A dataset, and what its items must satisfy now.
SELECT dataset_id, name, datasets.version, datasets.archived, input_schema, expected_output_schema
FROM datasets
JOIN dataset_descriptions USING (project_id, dataset_id)
WHERE project_id = $1 AND dataset_id = $2 AND until_version IS NULL

-- name: version_at
-- The last version of a dataset that was decided at or before an instant.
SELECT max(version) FROM dataset_changes WHERE project_id = $1 AND dataset_id = $2 AND changed_at <= $3

-- name: has_items
-- Whether a version of a dataset has items in any of some splits; no splits: any items at all.
SELECT EXISTS (
    SELECT FROM dataset_items
    WHERE
        project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
        AND NOT archived AND ($4::text[] = '{}' OR splits && $4)
)

-- name: find_items
-- Those of some items that a dataset has or had.
SELECT item_id FROM dataset_items
WHERE project_id = $1 AND dataset_id = $2 AND item_id = ANY($3) AND until_version IS NULL
