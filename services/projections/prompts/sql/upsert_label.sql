INSERT INTO prompt_labels (project_id, name, label, version, previous_version)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (project_id, name, label) DO UPDATE SET
    version = excluded.version,
    previous_version = excluded.previous_version
