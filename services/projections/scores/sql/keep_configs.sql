-- The staged events of configs; of an event told before the first telling is kept. In key order, so that writers of the
-- same configs queue and never deadlock.
WITH staged AS (DELETE FROM staged_configs RETURNING *)
INSERT INTO score_config_history AS told
SELECT * FROM staged ORDER BY project_id COLLATE "C", config_id COLLATE "C", event_id
ON CONFLICT (project_id, config_id, event_id) DO UPDATE SET
    defined_at = excluded.defined_at,
    digest = excluded.digest,
    name = excluded.name,
    type = excluded.type,
    min_value = excluded.min_value,
    max_value = excluded.max_value,
    labels = excluded.labels,
    label_values = excluded.label_values,
    description = excluded.description,
    archived = excluded.archived
WHERE (excluded.defined_at, excluded.digest) < (told.defined_at, told.digest)
