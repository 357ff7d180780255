-- What a batch adds to its traces, from staged_traces. In key order, so that writers of the same traces queue and never
-- deadlock; by operations that do not depend on order, so that it does not matter who comes first. Sums end at the largest
-- bigint (which depends on no order either), so that no span is refused because of the others of its trace.
WITH staged AS (DELETE FROM staged_traces RETURNING *)
INSERT INTO traces (
    project_id, trace_id, start_at, end_at, last_start_at, received_at, last_received_at,
    root_start_at, root_span_id, root_name, root_trace_name, root_user_id, root_session_id, root_environment, root_release,
    root_version, root_status_message, root_input_preview, root_output_preview,
    any_trace_name, any_user_id, any_session_id, any_environment, any_release, any_version,
    tags, level, span_count, type_counts, level_counts, input_tokens, output_tokens, total_tokens, cost_picos,
    retrieval_busy, generation_busy, tool_busy, child_busy
)
SELECT
    project_id, trace_id, start_at, end_at, last_start_at, received_at, last_received_at,
    root_start_at, root_span_id, root_name, root_trace_name, root_user_id, root_session_id, root_environment, root_release,
    root_version, root_status_message, root_input_preview, root_output_preview,
    any_trace_name, any_user_id, any_session_id, any_environment, any_release, any_version,
    tags, level, span_count, type_counts, level_counts, input_tokens, output_tokens, total_tokens, cost_picos,
    retrieval_busy, generation_busy, tool_busy, child_busy
FROM staged
ORDER BY project_id COLLATE "C", trace_id
ON CONFLICT (project_id, trace_id) DO UPDATE SET
    start_at = least(traces.start_at, excluded.start_at),
    end_at = greatest(traces.end_at, excluded.end_at),
    last_start_at = greatest(traces.last_start_at, excluded.last_start_at),
    received_at = least(traces.received_at, excluded.received_at),
    last_received_at = greatest(traces.last_received_at, excluded.last_received_at),
    (
        root_start_at, root_span_id, root_name, root_trace_name, root_user_id, root_session_id, root_environment,
        root_release, root_version, root_status_message, root_input_preview, root_output_preview
    ) = (
        SELECT
            root.start_at, root.span_id, root.name, root.trace_name, root.user_id, root.session_id, root.environment,
            root.release, root.version, root.status_message, root.input_preview, root.output_preview
        FROM (VALUES
            (
                2, traces.root_start_at, traces.root_span_id, traces.root_name, traces.root_trace_name, traces.root_user_id,
                traces.root_session_id, traces.root_environment, traces.root_release, traces.root_version,
                traces.root_status_message, traces.root_input_preview, traces.root_output_preview
            ),
            (
                1, excluded.root_start_at, excluded.root_span_id, excluded.root_name, excluded.root_trace_name,
                excluded.root_user_id, excluded.root_session_id, excluded.root_environment, excluded.root_release,
                excluded.root_version, excluded.root_status_message, excluded.root_input_preview,
                excluded.root_output_preview
            )
        ) AS root (
            place, start_at, span_id, name, trace_name, user_id, session_id, environment, release, version,
            status_message, input_preview, output_preview
        )
        ORDER BY root.start_at NULLS LAST, root.span_id, root.place  -- the same span: what is said of it now
        LIMIT 1
    ),
    any_trace_name = least(traces.any_trace_name, excluded.any_trace_name),
    any_user_id = least(traces.any_user_id, excluded.any_user_id),
    any_session_id = least(traces.any_session_id, excluded.any_session_id),
    any_environment = least(traces.any_environment, excluded.any_environment),
    any_release = least(traces.any_release, excluded.any_release),
    any_version = least(traces.any_version, excluded.any_version),
    tags = CASE
        WHEN traces.tags @> excluded.tags THEN traces.tags ELSE union_sorted(traces.tags, excluded.tags)
    END,
    level = greatest(traces.level, excluded.level),
    span_count = traces.span_count + excluded.span_count,
    type_counts = add_counts(traces.type_counts, excluded.type_counts),
    level_counts = add_counts(traces.level_counts, excluded.level_counts),
    input_tokens = least(traces.input_tokens::numeric + excluded.input_tokens, 9223372036854775807),
    output_tokens = least(traces.output_tokens::numeric + excluded.output_tokens, 9223372036854775807),
    total_tokens = least(traces.total_tokens::numeric + excluded.total_tokens, 9223372036854775807),
    cost_picos = least(traces.cost_picos::numeric + excluded.cost_picos, 9223372036854775807),
    retrieval_busy = CASE
        WHEN traces.span_count + excluded.span_count <= 1000 THEN traces.retrieval_busy + excluded.retrieval_busy
        ELSE coarse(
            traces.retrieval_busy + excluded.retrieval_busy, traces.span_count + excluded.span_count,
            least(traces.start_at, excluded.start_at), greatest(traces.end_at, excluded.end_at)
        )
    END,
    generation_busy = CASE
        WHEN traces.span_count + excluded.span_count <= 1000 THEN traces.generation_busy + excluded.generation_busy
        ELSE coarse(
            traces.generation_busy + excluded.generation_busy, traces.span_count + excluded.span_count,
            least(traces.start_at, excluded.start_at), greatest(traces.end_at, excluded.end_at)
        )
    END,
    tool_busy = CASE
        WHEN traces.span_count + excluded.span_count <= 1000 THEN traces.tool_busy + excluded.tool_busy
        ELSE coarse(
            traces.tool_busy + excluded.tool_busy, traces.span_count + excluded.span_count,
            least(traces.start_at, excluded.start_at), greatest(traces.end_at, excluded.end_at)
        )
    END,
    child_busy = CASE
        WHEN traces.span_count + excluded.span_count <= 1000 THEN traces.child_busy + excluded.child_busy
        ELSE coarse(
            traces.child_busy + excluded.child_busy, traces.span_count + excluded.span_count,
            least(traces.start_at, excluded.start_at), greatest(traces.end_at, excluded.end_at)
        )
    END,
    changed_by = pg_current_xact_id()
