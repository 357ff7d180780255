-- A page of sessions. sessions.py puts in conditions, order and limit; the columns in them are ours alone.
SELECT
    session_id, start_at, last_start_at, end_at, trace_count, error_count,
    input_tokens, output_tokens, total_tokens, cost_picos, user_ids, environments
FROM sessions
WHERE project_id = $1 {conditions}
ORDER BY {order}
LIMIT {limit}
