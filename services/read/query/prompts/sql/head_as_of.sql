-- A prompt at an instant: the last change by then, the versions and the holders of labels at that revision.
SELECT last.revision, last.archived, made.latest_version, held.labels, held.versions
FROM (
    SELECT revision, bool_or(kind = 'prompt_archived') AS archived
    FROM prompt_commands
    WHERE project_id = $1 AND prompt_name = $2 AND refusal = 0 AND decided_at <= $3
    GROUP BY revision
    ORDER BY revision DESC
    LIMIT 1
) AS last
CROSS JOIN LATERAL (
    SELECT coalesce(max(version), 0) AS latest_version
    FROM prompt_versions
    WHERE project_id = $1 AND name = $2 AND revision <= last.revision
) AS made
CROSS JOIN LATERAL (
    SELECT array_agg(label ORDER BY label) AS labels, array_agg(to_version ORDER BY label) AS versions
    FROM (
        SELECT DISTINCT ON (label) label, to_version
        FROM prompt_label_moves
        WHERE project_id = $1 AND name = $2 AND revision <= last.revision
        ORDER BY label, revision DESC
    ) AS moves
    WHERE to_version > 0
) AS held
