-- The different names of a project's traces, from one to the next along the index, and which of them match.
WITH RECURSIVE names AS (
    (SELECT coalesce(name, '') AS name FROM traces WHERE project_id = $1 ORDER BY coalesce(name, '') LIMIT 1)
    UNION ALL
    SELECT following.name
    FROM names
    CROSS JOIN LATERAL (
        SELECT coalesce(traces.name, '') AS name
        FROM traces
        WHERE traces.project_id = $1 AND coalesce(traces.name, '') > names.name
        ORDER BY coalesce(traces.name, '')
        LIMIT 1
    ) AS following
)
SELECT count(*) AS looked_at, coalesce(array_agg(name) FILTER (WHERE name ILIKE $2), '{}') AS names
FROM (SELECT name FROM names LIMIT $3) AS looked_at
