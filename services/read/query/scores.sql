-- Reads of scores, and of what traces show of theirs.

-- name: list_scores
-- A page of scores that hold, newest first. Conditions are put in, and where the last page ended.
SELECT
    score_id, scored_at, retracted, trace_id, span_id, session_id, run_id, name, type, number, label, comment, config_id,
    source, author, evaluator_version, environment, metadata, retraction_reason
FROM scores
WHERE project_id = $1 AND NOT retracted {conditions}
ORDER BY scored_at DESC, score_id DESC
LIMIT {limit}

-- name: get_score_history
-- All revisions of one score, newest first.
SELECT
    score_id, scored_at, retracted, trace_id, span_id, session_id, run_id, name, type, number, label, comment, config_id,
    source, author, evaluator_version, environment, metadata, retraction_reason
FROM score_history
WHERE project_id = $1 AND score_id = $2
ORDER BY scored_at DESC, event_id DESC

-- name: list_score_configs
-- The configs of scores by name; archived ones where $2 says so. The columns that make a config are put in.
SELECT {columns} FROM score_configs WHERE project_id = $1 AND (NOT archived OR $2) ORDER BY name, config_id

-- name: aggregate_scores
-- Scores by name and key. Conditions are put in and, as a query over `chosen`, a score's keys.
-- Averages are of exact decimals: they do not depend on the order of the rows, and no sum is too large. Types 2 and 3:
-- lodestream_proto.v1.SCORE_TYPE_CATEGORICAL, SCORE_TYPE_BOOLEAN.
WITH keyed AS (
    SELECT chosen.name, chosen.number, CASE WHEN chosen.type IN (2, 3) THEN chosen.label END AS label, keys.key
    FROM (SELECT * FROM scores WHERE project_id = $1 AND NOT retracted {conditions}) AS chosen
    CROSS JOIN LATERAL ({keys}) AS keys (key)
),
labelled AS (
    SELECT name, key, jsonb_object_agg(label, given)::text AS categories
    FROM (SELECT name, key, label, count(*) AS given FROM keyed WHERE label IS NOT NULL GROUP BY name, key, label)
        AS each_label
    GROUP BY name, key
),
grouped AS (
    SELECT
        name, key, count(*) AS count, avg(number::numeric)::double precision AS average,
        min(number) AS minimum, max(number) AS maximum, percentile_cont(0.5) WITHIN GROUP (ORDER BY number) AS median
    FROM keyed
    GROUP BY name, key
)
SELECT * FROM grouped LEFT JOIN labelled USING (name, key) ORDER BY name, key LIMIT {limit}

-- name: prompt_versions_of_score
SELECT DISTINCT spans.prompt_name || ':' || spans.prompt_version
FROM traces
JOIN spans ON
    spans.project_id = traces.project_id AND spans.trace_id = traces.trace_id
    AND spans.start_day BETWEEN traces.start_at::date AND traces.last_start_at::date
WHERE
    traces.project_id = chosen.project_id AND traces.trace_id = chosen.trace_id
    AND (chosen.span_id IS NULL OR spans.span_id = chosen.span_id)
    AND spans.prompt_name IS NOT NULL AND spans.prompt_version IS NOT NULL

-- name: release_of_score
SELECT coalesce((
    SELECT traces.release FROM traces
    WHERE traces.project_id = chosen.project_id AND traces.trace_id = chosen.trace_id
), '')

-- name: score_columns
-- What was given to each of some traces and to their spans, by name and label. Types 2 and 3: as in aggregate_scores.
SELECT
    trace_id, name, CASE WHEN type IN (2, 3) THEN label END AS label,
    count(*) AS given, count(number) AS numbers, sum(number::numeric) AS total
FROM scores
WHERE project_id = $1 AND trace_id = ANY($2::bytea[]) AND NOT retracted
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3

-- name: get_trace_scores
-- The scores that hold on some spans of a trace, and on the trace itself.
SELECT score_id, scored_at, span_id, name, type, number, label, comment, source, author, evaluator_version
FROM scores
WHERE
    project_id = $1 AND trace_id = $2 AND NOT retracted
    AND (span_id = ANY($3::bytea[]) OR ($4 AND span_id IS NULL))
ORDER BY name, scored_at DESC, score_id
LIMIT $5

-- name: rank_traces_by_score
-- Traces by one of their scores: of several on a trace the one that comes first. The index scores_by_number gives them in
-- order; scores_of_trace shows whether another one comes before.
SELECT given.trace_id AS scored_trace_id, given.number AS ranked_score
FROM scores AS given
WHERE
    given.project_id = $1 AND given.name = {name} AND given.number IS NOT NULL AND given.trace_id IS NOT NULL
    AND NOT given.retracted
    AND NOT EXISTS (
        SELECT FROM scores AS other
        WHERE
            other.project_id = given.project_id AND other.trace_id = given.trace_id AND other.name = given.name
            AND NOT other.retracted AND (other.number, other.score_id) {before} (given.number, given.score_id)
    )
