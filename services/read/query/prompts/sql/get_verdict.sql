SELECT version, revision, refusal, reason
FROM prompt_commands
WHERE project_id = $1 AND command_id = $2 AND ($3::text IS NULL OR prompt_name = $3)
ORDER BY decided_at, prompt_name
LIMIT 1
