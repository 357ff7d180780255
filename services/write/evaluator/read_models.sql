-- What workers read of the read models of datasets, experiments and prompts.

-- name: read_dataset_name
SELECT name FROM experiments.datasets WHERE project_id = $1 AND dataset_id = $2

-- name: read_dataset_version
SELECT version FROM experiments.datasets WHERE project_id = $1 AND dataset_id = $2

-- name: read_items
-- The dataset's items of jobs, at their runs' versions.
SELECT requested.project_id, requested.run_id, requested.item_id, items.input, items.expected_output, items.metadata
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    AS requested (project_id, run_id, item_id, dataset_id, version)
JOIN experiments.dataset_items AS items
    ON items.project_id = requested.project_id AND items.dataset_id = requested.dataset_id
    AND items.item_id = requested.item_id
    AND items.version <= requested.version AND (items.until_version IS NULL OR items.until_version > requested.version)

-- name: read_results
-- The results of a run's items, each with the dataset's item at the run's version.
SELECT results.item_id, results.repetition, results.result, items.input, items.expected_output, items.metadata
FROM experiments.experiment_items AS results
LEFT JOIN experiments.dataset_items AS items
    ON items.project_id = results.project_id AND items.dataset_id = $3 AND items.item_id = results.item_id
    AND items.version <= $4 AND (items.until_version IS NULL OR items.until_version > $4)
WHERE results.project_id = $1 AND results.run_id = $2
ORDER BY results.item_id, results.repetition

-- name: read_prompt
-- A version of a prompt by its number, or, where that is null, the one that holds the label.
SELECT versions.body
FROM prompts.prompt_versions AS versions
WHERE
    versions.project_id = $1 AND versions.name = $2
    AND versions.version = coalesce($3::integer, (
        SELECT labels.version FROM prompts.prompt_labels AS labels
        WHERE labels.project_id = $1 AND labels.name = $2 AND labels.label = $4
    ))
