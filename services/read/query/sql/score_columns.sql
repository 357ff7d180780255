-- What was given to each of some traces and to their spans, by name and label. Types 2 and 3: as in aggregate_scores.sql.
SELECT
    trace_id, name, CASE WHEN type IN (2, 3) THEN label END AS label,
    count(*) AS given, count(number) AS numbers, sum(number::numeric) AS total
FROM scores
WHERE project_id = $1 AND trace_id = ANY($2::bytea[]) AND NOT retracted
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
