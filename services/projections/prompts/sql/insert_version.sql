INSERT INTO prompt_versions (project_id, name, version, revision, tags, created_at, body)
VALUES ($1, $2, $3, $4, $5, $6, $7)
