INSERT INTO prompts (project_id, name, is_chat, latest_version, revision, archived, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (project_id, name) DO UPDATE SET
    latest_version = excluded.latest_version,
    revision = excluded.revision,
    archived = excluded.archived,
    updated_at = excluded.updated_at
