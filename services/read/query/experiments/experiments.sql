-- Reads of runs and of what came of their items.

-- name: get_runs
-- Runs by their ids, each with the dataset it is over as far as that is known.
SELECT
    runs.run_id, runs.dataset_id, runs.dataset_version, runs.state, runs.reason, runs.requested_at, runs.ended_at,
    runs.request, runs.run_evaluations, runs.items_finished, runs.items_failed, runs.input_tokens, runs.output_tokens,
    runs.cost_picodollars, datasets.name AS dataset_name, datasets.version AS dataset_now,
    datasets.item_count AS dataset_items
FROM experiment_runs AS runs
LEFT JOIN datasets ON datasets.project_id = $1 AND datasets.dataset_id = runs.dataset_id
WHERE runs.project_id = $1 AND runs.run_id = ANY($2::text[])

-- name: find_run_by_name
-- The newest run of a name, to hint at it where a name is given for an id.
SELECT run_id FROM experiment_runs WHERE project_id = $1 AND name = $2 ORDER BY requested_at DESC LIMIT 1

-- name: list_runs
-- A page of runs, newest first. Conditions and limit are put in.
SELECT
    runs.run_id, runs.dataset_id, runs.dataset_version, runs.state, runs.reason, runs.requested_at, runs.ended_at,
    runs.request, runs.run_evaluations, runs.items_finished, runs.items_failed, runs.input_tokens, runs.output_tokens,
    runs.cost_picodollars, datasets.name AS dataset_name, datasets.version AS dataset_now,
    datasets.item_count AS dataset_items
FROM (
    SELECT * FROM experiment_runs WHERE project_id = $1 {conditions} ORDER BY requested_at DESC, run_id DESC LIMIT {limit}
) AS runs
LEFT JOIN datasets ON datasets.project_id = $1 AND datasets.dataset_id = runs.dataset_id
ORDER BY runs.requested_at DESC, runs.run_id DESC

-- name: list_run_items
-- A page of a run's items in the order of its dataset, by repetition. The dataset items' columns, conditions (the
-- dataset's version among them) and limit are put in.
SELECT items.first_version, results.item_id, results.repetition, results.result {columns}
FROM dataset_items AS items
JOIN experiment_items AS results
    ON results.project_id = $1 AND results.run_id = $2 AND results.item_id = items.item_id
WHERE items.project_id = $1 AND items.dataset_id = $3 {conditions}
ORDER BY items.first_version, results.repetition
LIMIT {limit}

-- name: list_run_items_by_id
-- A page of a run's items by their ids and repetitions. Conditions and limit are put in.
SELECT results.item_id, results.repetition, results.result
FROM experiment_items AS results
WHERE results.project_id = $1 AND results.run_id = $2 {conditions}
ORDER BY results.item_id, results.repetition
LIMIT {limit}

-- name: items_since
-- The results of a run after an instant, in the order of the log: no two are of the same instant.
SELECT finished_at, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2 AND finished_at > $3
ORDER BY finished_at
LIMIT $4

-- name: poll_runs
-- How far some runs are: polled a few times a second for all that are watched.
SELECT project_id, run_id, state, items_finished, ended_at
FROM experiment_runs
WHERE (project_id, run_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))

-- name: count_items
-- The items of a dataset at a version, of any of some splits where some are given.
SELECT count(*)
FROM dataset_items
WHERE
    project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
    AND NOT archived AND ($4::text[] = '{}' OR splits && $4)

-- name: summarize_items
-- How long the items of runs took, and of how many the price is known. Percentiles are latencies that occurred.
SELECT
    run_id, percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_us) AS latencies,
    count(cost_picodollars) AS priced
FROM experiment_items
WHERE project_id = $1 AND run_id = ANY($2::text[])
GROUP BY run_id

-- name: summarize_evaluations
-- The evaluations of the items of runs, by name, type and label. Sums are of exact decimals: they do not depend on
-- the order of the rows. Types 1, 2 and 3: lodestream_proto.v1.SCORE_TYPE_NUMERIC, _CATEGORICAL and _BOOLEAN.
SELECT
    run_id, name, type, CASE WHEN type IN (2, 3) THEN label END AS label, count(*) AS given,
    sum(number::numeric) FILTER (WHERE type = 1) AS total
FROM experiment_evaluations
WHERE project_id = $1 AND run_id = ANY($2::text[])
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4

-- name: compare_items
-- What came of each item of a run, by repetition.
SELECT
    item_id, array_agg(failed ORDER BY repetition) AS failed, array_agg(latency_us ORDER BY repetition) AS latencies_us,
    array_agg(cost_picodollars ORDER BY repetition) AS costs_picodollars,
    (array_agg(trace_id ORDER BY repetition))[1] AS trace_id
FROM experiment_items
WHERE project_id = $1 AND run_id = $2
GROUP BY item_id

-- name: compare_evaluations
-- The evaluations of each item of a run under some names, by repetition. Type 2:
-- lodestream_proto.v1.SCORE_TYPE_CATEGORICAL.
SELECT
    name, item_id, array_agg(type ORDER BY repetition) AS types, array_agg(number ORDER BY repetition) AS numbers,
    array_agg(CASE WHEN type = 2 THEN label END ORDER BY repetition) AS labels
FROM experiment_evaluations
WHERE project_id = $1 AND run_id = $2 AND name = ANY($3::text[])
GROUP BY name, item_id

-- name: compare_names
-- The names of the evaluations that some runs have.
SELECT DISTINCT name FROM experiment_evaluations WHERE project_id = $1 AND run_id = ANY($2::text[])

-- name: compare_dataset_items
-- The items of a dataset at a version: what they are looked at by, the beginning of their input, and a digest of what was
-- given and expected.
SELECT
    item_id, metadata, left(input, $4) AS input_preview,
    md5(length(input) || ':' || input || expected_output) AS digest
FROM dataset_items
WHERE
    project_id = $1 AND dataset_id = $2 AND version <= $3 AND (until_version IS NULL OR until_version > $3)
    AND NOT archived

-- name: compare_own_items
-- The first result of each item of a run over data that are in no dataset: they hold their inputs.
SELECT DISTINCT ON (item_id) item_id, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2
ORDER BY item_id, repetition

-- name: compare_failures
-- The first failure of each item of a run that has one.
SELECT DISTINCT ON (item_id) item_id, result
FROM experiment_items
WHERE project_id = $1 AND run_id = $2 AND failed
ORDER BY item_id, repetition
LIMIT $3

-- name: compare_first_and_last
-- Some results of a run: the first ones, and the last ones.
(
    SELECT result FROM experiment_items WHERE project_id = $1 AND run_id = $2
    ORDER BY finished_at, item_id, repetition LIMIT $3
)
UNION ALL
(
    SELECT result FROM experiment_items WHERE project_id = $1 AND run_id = $2
    ORDER BY finished_at DESC, item_id DESC, repetition DESC LIMIT $3
)
