-- What came of a run's items, each with the dataset's item at the run's version.
SELECT results.item_id, results.repetition, results.result, items.input, items.expected_output, items.metadata
FROM experiments.experiment_items AS results
LEFT JOIN experiments.dataset_items AS items
    ON items.project_id = results.project_id AND items.dataset_id = $3 AND items.item_id = results.item_id
    AND items.version <= $4 AND (items.until_version IS NULL OR items.until_version > $4)
WHERE results.project_id = $1 AND results.run_id = $2
ORDER BY results.item_id, results.repetition
