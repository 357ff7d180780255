SELECT project_id, name, revision
FROM prompt_outbox
WHERE (project_id, name) > ($1, $2)
ORDER BY project_id, name
LIMIT $3
