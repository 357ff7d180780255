-- A page of trace summaries. traces.py puts in conditions, order, limit, and for a sort by score what ranks
-- the traces; the columns in them are ours alone. What busy_us() does is written out: as a function that Postgres does
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
