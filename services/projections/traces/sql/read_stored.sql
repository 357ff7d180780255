-- These spans as they are stored, times in µs since 1970.
SELECT
    project_id, start_day, trace_id, span_id, parent_span_id, is_root, name, type, level, status_message,
    (extract(EPOCH FROM start_at) * 1000000)::bigint AS start_at_us,
    (extract(EPOCH FROM end_at) * 1000000)::bigint AS end_at_us,
    first_token_us, model, provider, usage, cost, input_tokens, output_tokens, total_tokens, cost_picos,
    prompt_name, prompt_version, trace_name, user_id, session_id, tags, environment, release, version, sdk,
    input_preview, output_preview, sanitized,
    (extract(EPOCH FROM received_at) * 1000000)::bigint AS received_at_us,
    block_partition, block_offset, block_index, parts
FROM spans
JOIN unnest($1::text[], $2::bytea[], $3::bytea[], $4::date[]) AS wanted (project_id, trace_id, span_id, start_day)
    USING (project_id, trace_id, span_id, start_day)
