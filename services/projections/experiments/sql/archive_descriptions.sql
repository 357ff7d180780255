-- Archived, and otherwise as before.
INSERT INTO dataset_descriptions
(project_id, dataset_id, version, until_version, archived, description, metadata, input_schema, expected_output_schema)
SELECT
    gone.project_id, gone.dataset_id, gone.version, gone.until_version, TRUE,
    before.description, before.metadata, before.input_schema, before.expected_output_schema
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS gone (project_id, dataset_id, version, until_version)
INNER JOIN dataset_descriptions AS before
    ON
        before.project_id = gone.project_id AND before.dataset_id = gone.dataset_id
        AND before.until_version = gone.version
