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
