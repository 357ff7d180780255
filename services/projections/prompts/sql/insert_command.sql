INSERT INTO prompt_commands
    (project_id, command_id, prompt_name, kind, version, revision, refusal, reason, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
