-- A page of sessions, newest activity first. sessions.py puts in what filters traces, and where the last page ended.
SELECT
    session_id,
    min(start_at) AS start_at,
    max(coalesce(end_at, start_at)) AS end_at,
    max(start_at) AS last_start_at,
    count(*) AS trace_count,
    count(*) FILTER (WHERE level_counts[4] > 0) AS error_count,
    array_remove(array_agg(DISTINCT user_id), NULL) AS user_ids,
    array_remove(array_agg(DISTINCT environment), NULL) AS environments,
    sum(input_tokens)::bigint AS input_tokens,
    sum(output_tokens)::bigint AS output_tokens,
    sum(total_tokens)::bigint AS total_tokens,
    sum(cost_picos)::bigint AS cost_picos
FROM traces
WHERE project_id = $1 AND session_id IS NOT NULL {conditions}
GROUP BY session_id
{after}
ORDER BY last_start_at DESC, session_id
LIMIT {limit}
