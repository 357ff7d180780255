-- A page of datasets as they are, by name. list_datasets.py puts in conditions and limit.
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
