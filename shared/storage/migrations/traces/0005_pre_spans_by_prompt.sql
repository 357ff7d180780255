-- What generations made with a prompt were like, version by version.
CREATE INDEX spans_by_prompt ON spans (project_id, prompt_name, start_at) WHERE prompt_name IS NOT NULL;
