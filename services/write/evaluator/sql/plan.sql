-- A job for each item of the dataset's version and each repetition, but for what the log has a result of.
INSERT INTO evaluator.jobs (project_id, run_id, item_id, repetition, ordinal, state)
SELECT $1, $2, item_id, repetition, row_number() OVER (ORDER BY repetition, first_version, item_id), 0
FROM experiments.dataset_items
CROSS JOIN generate_series(0, $5::integer - 1) AS repetition
WHERE
    project_id = $1 AND dataset_id = $3 AND version <= $4 AND (until_version IS NULL OR until_version > $4)
    AND NOT archived AND ($6::text[] = '{}' OR splits && $6::text[])
ON CONFLICT (project_id, run_id, item_id, repetition) DO NOTHING
