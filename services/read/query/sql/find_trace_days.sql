-- In which days the spans of a trace start, how many they are, and when the last one came.
SELECT start_at, last_start_at, span_count, last_received_at
FROM traces
WHERE project_id = $1 AND trace_id = $2
