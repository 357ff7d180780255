INSERT INTO prompt_outbox AS waiting (project_id, name, revision)
VALUES ($1, $2, $3)
ON CONFLICT (project_id, name) DO UPDATE SET revision = greatest(waiting.revision, excluded.revision)
