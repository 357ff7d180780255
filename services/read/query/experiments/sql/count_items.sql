-- The items of a dataset at a version, of any of some splits where some are given.
SELECT count(*)
FROM dataset_items
WHERE
    project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
    AND NOT archived AND ($4::text[] = '{}' OR splits && $4)
