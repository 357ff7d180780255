-- Heads of prompts, in one snapshot. $3: how many bytes of labelled versions go with each.
SELECT
    prompts.project_id, prompts.name, prompts.revision, prompts.archived, prompts.latest_version,
    held.labels, held.versions, carried.bodies
FROM prompts
JOIN unnest($1::text[], $2::text[]) AS wanted (project_id, name) USING (project_id, name)
CROSS JOIN LATERAL (
    SELECT array_agg(label ORDER BY label) AS labels, array_agg(version ORDER BY label) AS versions
    FROM prompt_labels
    WHERE project_id = prompts.project_id AND name = prompts.name AND version > 0
) AS held
CROSS JOIN LATERAL (
    SELECT array_agg(body ORDER BY rank, version) AS bodies
    FROM (
        SELECT body, rank, version, sum(octet_length(body)) OVER (ORDER BY rank, version) AS total
        FROM prompt_versions
        JOIN (
            SELECT version, min(CASE label WHEN 'production' THEN 0 WHEN 'latest' THEN 1 ELSE 2 END) AS rank
            FROM unnest(held.labels, held.versions) AS pairs (label, version)
            GROUP BY version
        ) AS labelled USING (version)
        WHERE project_id = prompts.project_id AND name = prompts.name
    ) AS ranked
    WHERE total <= $3
) AS carried
