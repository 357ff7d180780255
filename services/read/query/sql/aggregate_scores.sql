-- Scores by name and key. scores/aggregates.py puts in the conditions and, as a query over `chosen`, a score's keys.
-- Averages are of exact decimals: they do not depend on the order of the rows, and no sum is too large. Types 2 and 3:
-- lodestream_proto.v1.SCORE_TYPE_CATEGORICAL, SCORE_TYPE_BOOLEAN.
WITH keyed AS (
    SELECT chosen.name, chosen.number, CASE WHEN chosen.type IN (2, 3) THEN chosen.label END AS label, keys.key
    FROM (SELECT * FROM scores WHERE project_id = $1 AND NOT retracted {conditions}) AS chosen
    CROSS JOIN LATERAL ({keys}) AS keys (key)
),
labelled AS (
    SELECT name, key, jsonb_object_agg(label, given)::text AS categories
    FROM (SELECT name, key, label, count(*) AS given FROM keyed WHERE label IS NOT NULL GROUP BY name, key, label)
        AS each_label
    GROUP BY name, key
),
grouped AS (
    SELECT
        name, key, count(*) AS count, avg(number::numeric)::double precision AS average,
        min(number) AS minimum, max(number) AS maximum, percentile_cont(0.5) WITHIN GROUP (ORDER BY number) AS median
    FROM keyed
    GROUP BY name, key
)
SELECT * FROM grouped LEFT JOIN labelled USING (name, key) ORDER BY name, key LIMIT {limit}
