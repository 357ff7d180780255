-- The spans of one trace, in the days in which its spans start. trace_spans.py puts in conditions and limit; they are ours
-- alone.
SELECT
    span_id, start_day, parent_span_id, is_root, name, type, level, status_message, start_at, end_at, first_token_us,
    model, provider, usage, cost, input_tokens, output_tokens, total_tokens, cost_picos, prompt_name, prompt_version,
    environment, release, sdk, user_id, session_id, input_preview, output_preview, sanitized,
    received_at, block_partition, block_offset, block_index, parts
FROM spans
WHERE project_id = $1 AND trace_id = $2 AND start_day BETWEEN $3 AND $4 {conditions}
ORDER BY start_at, span_id
{limit}
