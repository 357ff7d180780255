-- How long the items of runs took, and of how many the price is known. Percentiles are latencies that occurred.
SELECT
    run_id, percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY latency_us) AS latencies,
    count(cost_picodollars) AS priced
FROM experiment_items
WHERE project_id = $1 AND run_id = ANY($2::text[])
GROUP BY run_id
