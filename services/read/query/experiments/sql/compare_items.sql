-- What came of each item of a run, by repetition.
SELECT
    item_id, array_agg(failed ORDER BY repetition) AS failed, array_agg(latency_us ORDER BY repetition) AS latencies_us,
    array_agg(cost_picodollars ORDER BY repetition) AS costs_picodollars,
    (array_agg(trace_id ORDER BY repetition))[1] AS trace_id
FROM experiment_items
WHERE project_id = $1 AND run_id = $2
GROUP BY item_id
