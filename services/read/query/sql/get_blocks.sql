-- The records that these spans came in.
SELECT partition, "offset", sdk_name, sdk_version, compression, otlp_request
FROM span_blocks
JOIN unnest($2::date[], $3::integer[], $4::bigint[]) AS wanted (received_day, partition, "offset")
    USING (received_day, partition, "offset")
WHERE project_id = $1
