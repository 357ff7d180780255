SELECT project_id, prompt_name, command_id
FROM prompt_commands
WHERE (project_id, prompt_name, command_id) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]))
