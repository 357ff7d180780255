-- Generations by the version of the prompt they were made with, newest first. metrics.py puts in the time. A generation
-- that still runs has no latency. Percentiles are latencies that occurred.
SELECT
    prompt_version,
    count(*) AS generations,
    count(*) FILTER (WHERE level = $4) AS errors,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY latency_us) AS latency_p50_us,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY latency_us) AS latency_p95_us,
    avg(input_tokens)::float8 AS input_tokens_avg,
    avg(output_tokens)::float8 AS output_tokens_avg,
    sum(cost_picos) AS cost_picos,
    min(start_at) AS first_used_at,
    max(start_at) AS last_used_at
FROM (
    SELECT
        project_id, prompt_name, prompt_version, type, level, start_at, input_tokens, output_tokens, cost_picos,
        CAST(extract(epoch FROM end_at - start_at) * 1000000 AS bigint) AS latency_us
    FROM spans
) AS timed
WHERE project_id = $1 AND prompt_name = $2 AND type = $3 AND prompt_version IS NOT NULL {conditions}
GROUP BY prompt_version
ORDER BY prompt_version DESC
