INSERT INTO prompt_label_moves (project_id, name, revision, label, from_version, to_version, author, moved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
