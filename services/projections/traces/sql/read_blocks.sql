-- The records that these spans were told in.
SELECT project_id, partition, "offset", received_at, sdk_name, sdk_version, compression, span_count, otlp_request
FROM span_blocks
JOIN unnest($1::text[], $2::date[], $3::integer[], $4::bigint[]) AS wanted (project_id, received_day, partition, "offset")
    USING (project_id, received_day, partition, "offset")
