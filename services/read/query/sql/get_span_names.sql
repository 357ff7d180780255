-- What some spans of a trace are called.
SELECT span_id, name
FROM spans
WHERE project_id = $1 AND trace_id = $2 AND start_day BETWEEN $3 AND $4 AND span_id = ANY($5::bytea[])
