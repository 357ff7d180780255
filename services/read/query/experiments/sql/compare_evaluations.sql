-- What evaluators said of each item of a run, by repetition: under some names. Type 2:
-- lodestream_proto.v1.SCORE_TYPE_CATEGORICAL.
SELECT
    name, item_id, array_agg(type ORDER BY repetition) AS types, array_agg(number ORDER BY repetition) AS numbers,
    array_agg(CASE WHEN type = 2 THEN label END ORDER BY repetition) AS labels
FROM experiment_evaluations
WHERE project_id = $1 AND run_id = $2 AND name = ANY($3::text[])
GROUP BY name, item_id
