INSERT INTO datasets (project_id, dataset_id, name, version, archived, item_count, created_at, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (project_id, dataset_id) DO UPDATE SET
    version = excluded.version,
    archived = excluded.archived,
    item_count = excluded.item_count,
    changed_at = excluded.changed_at
