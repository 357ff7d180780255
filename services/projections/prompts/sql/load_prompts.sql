-- Locked in key order: should two processes have commands of one prompt all the same, they queue.
SELECT project_id, name, is_chat, latest_version, revision, archived, created_at, updated_at
FROM prompts
WHERE (project_id, name) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY project_id, name
FOR UPDATE
