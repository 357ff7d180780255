-- Reads of prompts: their heads, versions, labels and what generations with them were like.

-- name: head_as_of
-- A prompt at an instant: the last change by then, the versions and the holders of labels at that revision.
SELECT last.revision, last.archived, made.latest_version, held.labels, held.versions
FROM (
    SELECT revision, bool_or(kind = 'prompt_archived') AS archived
    FROM prompt_commands
    WHERE project_id = $1 AND prompt_name = $2 AND refusal = 0 AND decided_at <= $3
    GROUP BY revision
    ORDER BY revision DESC
    LIMIT 1
) AS last
CROSS JOIN LATERAL (
    SELECT coalesce(max(version), 0) AS latest_version
    FROM prompt_versions
    WHERE project_id = $1 AND name = $2 AND revision <= last.revision
) AS made
CROSS JOIN LATERAL (
    SELECT array_agg(label ORDER BY label) AS labels, array_agg(to_version ORDER BY label) AS versions
    FROM (
        SELECT DISTINCT ON (label) label, to_version
        FROM prompt_label_moves
        WHERE project_id = $1 AND name = $2 AND revision <= last.revision
        ORDER BY label, revision DESC
    ) AS moves
    WHERE to_version > 0
) AS held

-- name: get_versions
SELECT name, version, body
FROM prompt_versions
WHERE project_id = $1 AND (name, version) IN (SELECT * FROM unnest($2::text[], $3::integer[]))

-- name: prompt_exists
SELECT 1 FROM prompts WHERE project_id = $1 AND name = $2

-- name: list_prompts
-- A page of prompts, by name. Conditions and limit are put in. Tags are those of the newest version.
SELECT
    prompts.name, is_chat, latest_version, held.labels, held.versions, newest.tags, prompts.revision, archived,
    prompts.created_at, updated_at
FROM prompts
JOIN prompt_versions AS newest
    ON newest.project_id = prompts.project_id AND newest.name = prompts.name AND newest.version = latest_version
CROSS JOIN LATERAL (
    SELECT array_agg(label ORDER BY label) AS labels, array_agg(version ORDER BY label) AS versions
    FROM prompt_labels
    WHERE project_id = prompts.project_id AND name = prompts.name AND version > 0
) AS held
WHERE prompts.project_id = $1 {conditions}
ORDER BY prompts.name
LIMIT {limit}

-- name: list_versions
-- A page of a prompt's versions below $3, newest first: at most $4, and none but the first beyond $5 bytes.
SELECT version, body
FROM (
    SELECT version, body, sum(octet_length(body)) OVER (ORDER BY version DESC) - octet_length(body) AS bytes_before
    FROM (
        SELECT version, body
        FROM prompt_versions
        WHERE project_id = $1 AND name = $2 AND version < $3
        ORDER BY version DESC
        LIMIT $4
    ) AS page
) AS weighed
WHERE bytes_before < $5
ORDER BY version DESC

-- name: label_history
-- A page of a prompt's label moves, newest first. Conditions and limit are put in.
SELECT revision, label, from_version, to_version, author, moved_at
FROM prompt_label_moves
WHERE project_id = $1 AND name = $2 {conditions}
ORDER BY revision DESC, label
LIMIT {limit}

-- name: get_verdict
SELECT version, revision, refusal, reason
FROM prompt_commands
WHERE project_id = $1 AND command_id = $2 AND ($3::text IS NULL OR prompt_name = $3)
ORDER BY decided_at, prompt_name
LIMIT 1

-- name: prompt_metrics
-- Generations by the version of the prompt they were made with, newest first. Conditions on the time are put in.
-- A generation that still runs has no latency. Percentiles are latencies that occurred.
SELECT
    prompt_version,
    count(*) AS generations,
    count(*) FILTER (WHERE level = $4) AS errors,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY latency_us) AS latency_p50_us,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_us) AS latency_p95_us,
    avg(input_tokens)::float8 AS input_tokens_avg,
    avg(output_tokens)::float8 AS output_tokens_avg,
    sum(cost_picos) AS cost_picos,
    min(start_at) AS first_used_at,
    max(start_at) AS last_used_at
FROM (
    SELECT
        project_id, prompt_name, prompt_version, type, level, start_at, input_tokens, output_tokens, cost_picos,
        CAST(extract(epoch FROM end_at - start_at) * 1000000 AS bigint) AS latency_us
    FROM spans
) AS timed
WHERE project_id = $1 AND prompt_name = $2 AND type = $3 AND prompt_version IS NOT NULL {conditions}
GROUP BY prompt_version
ORDER BY prompt_version DESC

-- name: score_averages
-- The averages of the scores of generations and of their traces, by the version they were made with.
SELECT version, score_name, score_count, score_average FROM scores.prompt_score_averages($1, $2, $3, $4)
ORDER BY version, score_name
