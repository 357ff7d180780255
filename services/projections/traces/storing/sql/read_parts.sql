-- Where the tellings of these spans are.
SELECT
    project_id, trace_id, span_id, start_day,
    (extract(EPOCH FROM received_at) * 1000000)::bigint AS received_at_us,
    block_partition, block_offset, block_index, parts
FROM spans
JOIN unnest($1::text[], $2::bytea[], $3::bytea[], $4::date[]) AS wanted (project_id, trace_id, span_id, start_day)
    USING (project_id, trace_id, span_id, start_day)
