-- The items of a dataset at a version: what they are looked at by, the beginning of their input, and a digest of what was
-- asked and expected.
SELECT
    item_id, metadata, left(input, $4) AS input_preview,
    md5(length(input) || ':' || input || expected_output) AS digest
FROM dataset_items
WHERE
    project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
    AND NOT archived
