-- A version by its number, or, where that is null, the one that holds the label.
SELECT versions.body
FROM prompts.prompt_versions AS versions
WHERE
    versions.project_id = $1 AND versions.name = $2
    AND versions.version = coalesce($3::integer, (
        SELECT labels.version FROM prompts.prompt_labels AS labels
        WHERE labels.project_id = $1 AND labels.name = $2 AND labels.label = $4
    ))
