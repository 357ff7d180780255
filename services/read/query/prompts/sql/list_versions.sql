-- A page of a prompt's versions below $3, newest first: at most $4, and none but the first beyond $5 bytes.
SELECT version, body
FROM (
    SELECT version, body, sum(octet_length(body)) OVER (ORDER BY version DESC) - octet_length(body) AS bytes_before
    FROM (
        SELECT version, body
        FROM prompt_versions
        WHERE project_id = $1 AND name = $2 AND version < $3
        ORDER BY version DESC
        LIMIT $4
    ) AS page
) AS weighed
WHERE bytes_before < $5
ORDER BY version DESC
