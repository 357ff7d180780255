-- Reads of traces, of their spans and of the records that those came in, and of sessions.

-- name: list_traces
-- A page of trace summaries. Conditions, order and limit are put in, and for a sort by score what ranks
-- the traces; they hold no text of a caller's. What busy_us() does is written out: as a function that Postgres does
-- not inline it took more than half of the time of a page.
SELECT
    trace_id, name, user_id, session_id, tags, environment, release, version, start_at, end_at, latency_us,
    root_span_id, root_status_message, root_input_preview, root_output_preview, level, span_count, type_counts,
    level_counts, input_tokens, output_tokens, total_tokens, cost_picos, last_start_at, last_received_at,
    changed_by::text AS changed_by,
    coalesce(latency_us, -1) AS known_latency_us, coalesce(name, '') AS known_name,
    (SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint FROM unnest(retrieval_busy) AS part) AS retrieval_us,
    (SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint FROM unnest(generation_busy) AS part) AS generation_us,
    (SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint FROM unnest(tool_busy) AS part) AS tool_us,
    (
        SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint
        FROM unnest(child_busy - (retrieval_busy + generation_busy + tool_busy)) AS part
    ) AS other_us,
    (SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint FROM unnest(child_busy) AS part) AS child_us,
    grain_bits(span_count, start_at, end_at) AS grain_bits
    {score}
FROM traces {ranked}
WHERE project_id = $1 {conditions}
ORDER BY {order}
LIMIT {limit}

-- name: match_names
-- The different names of a project's traces, from one to the next along the index, and which of them match.
WITH RECURSIVE names AS (
    (SELECT coalesce(name, '') AS name FROM traces WHERE project_id = $1 ORDER BY coalesce(name, '') LIMIT 1)
    UNION ALL
    SELECT following.name
    FROM names
    CROSS JOIN LATERAL (
        SELECT coalesce(traces.name, '') AS name
        FROM traces
        WHERE traces.project_id = $1 AND coalesce(traces.name, '') > names.name
        ORDER BY coalesce(traces.name, '')
        LIMIT 1
    ) AS following
)
SELECT count(*) AS looked_at, coalesce(array_agg(name) FILTER (WHERE name ILIKE $2), '{}') AS names
FROM (SELECT name FROM names LIMIT $3) AS looked_at

-- name: find_trace_days
-- In which days the spans of a trace start, how many they are, and when the last one came.
SELECT start_at, last_start_at, span_count, last_received_at
FROM traces
WHERE project_id = $1 AND trace_id = $2

-- name: get_spans
-- The spans of one trace, in the days in which its spans start. Conditions and limit are put in; they hold no text
-- of a caller's.
SELECT
    span_id, start_day, parent_span_id, is_root, name, type, level, status_message, start_at, end_at, first_token_us,
    model, provider, usage, cost, input_tokens, output_tokens, total_tokens, cost_picos, prompt_name, prompt_version,
    environment, release, sdk, user_id, session_id, input_preview, output_preview, sanitized,
    received_at, block_partition, block_offset, block_index, parts
FROM spans
WHERE project_id = $1 AND trace_id = $2 AND start_day BETWEEN $3 AND $4 {conditions}
ORDER BY start_at, span_id
{limit}

-- name: get_span_tree
-- The shape of one trace, for COPY: columns of one width each, none of them null. A start or end is microseconds since 2000.
SELECT
    span_id,
    CASE WHEN octet_length(parent_span_id) = 8 THEN parent_span_id ELSE '\x0000000000000000' END,
    start_at,
    coalesce(end_at, '-infinity'),
    hashtextextended(name, 0),
    type,
    level
FROM spans
WHERE project_id = $1 AND trace_id = $2 AND start_day BETWEEN $3 AND $4 AND octet_length(span_id) = 8

-- name: get_span_names
-- What some spans of a trace are called.
SELECT span_id, name
FROM spans
WHERE project_id = $1 AND trace_id = $2 AND start_day BETWEEN $3 AND $4 AND span_id = ANY($5::bytea[])

-- name: get_blocks
-- The records that these spans came in.
SELECT partition, "offset", sdk_name, sdk_version, compression, otlp_request
FROM span_blocks
JOIN unnest($2::date[], $3::integer[], $4::bigint[]) AS wanted (received_day, partition, "offset")
    USING (received_day, partition, "offset")
WHERE project_id = $1

-- name: current_snapshot
SELECT pg_current_snapshot()::text

-- name: changed_projects
-- Those of some projects that have a trace which was changed between two snapshots.
SELECT tailed.project_id FROM unnest($1::text[]) AS tailed (project_id)
WHERE EXISTS (
    SELECT FROM traces
    WHERE
        traces.project_id = tailed.project_id
        AND traces.changed_by >= pg_snapshot_xmin($2::text::pg_snapshot)
        AND NOT pg_visible_in_snapshot(traces.changed_by, $2::text::pg_snapshot)
        AND pg_visible_in_snapshot(traces.changed_by, $3::text::pg_snapshot)
)

-- name: list_sessions
-- A page of sessions. Conditions, order and limit are put in; they hold no text of a caller's.
SELECT
    session_id, start_at, last_start_at, end_at, trace_count, error_count,
    input_tokens, output_tokens, total_tokens, cost_picos, user_ids, environments
FROM sessions
WHERE project_id = $1 {conditions}
ORDER BY {order}
LIMIT {limit}
