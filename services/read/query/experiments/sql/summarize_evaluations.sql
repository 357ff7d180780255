-- What evaluators said of the items of runs, by name, type and label. Sums are of exact decimals: they do not depend on
-- the order of the rows. Types 1, 2 and 3: lodestream_proto.v1.SCORE_TYPE_NUMERIC, _CATEGORICAL and _BOOLEAN.
SELECT
    run_id, name, type, CASE WHEN type IN (2, 3) THEN label END AS label, count(*) AS given,
    sum(number::numeric) FILTER (WHERE type = 1) AS total
FROM experiment_evaluations
WHERE project_id = $1 AND run_id = ANY($2::text[])
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
