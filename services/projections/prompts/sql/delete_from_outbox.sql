-- Redis knows this revision; what has come since goes on waiting.
DELETE FROM prompt_outbox WHERE project_id = $1 AND name = $2 AND revision <= $3
