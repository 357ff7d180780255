-- A page of prompts, by name. list_prompts.py puts in conditions and limit. Tags are those of the newest version.
SELECT
    prompts.name, is_chat, latest_version, held.labels, held.versions, newest.tags, prompts.revision, archived,
    prompts.created_at, updated_at
FROM prompts
JOIN prompt_versions AS newest
    ON newest.project_id = prompts.project_id AND newest.name = prompts.name AND newest.version = latest_version
CROSS JOIN LATERAL (
    SELECT array_agg(label ORDER BY label) AS labels, array_agg(version ORDER BY label) AS versions
    FROM prompt_labels
    WHERE project_id = prompts.project_id AND name = prompts.name AND version > 0
) AS held
WHERE prompts.project_id = $1 {conditions}
ORDER BY prompts.name
LIMIT {limit}
