SELECT project_id, dataset_id, description, metadata, input_schema, expected_output_schema
FROM dataset_descriptions
WHERE until_version IS NULL AND (project_id, dataset_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
