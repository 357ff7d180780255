-- Add to what projects have spent today and in this month, in key order.
INSERT INTO lodestream.spending AS known (project_id, period, begins_on, picodollars, tokens)
SELECT
    spent.project_id, periods.period, date_trunc(periods.period, now() AT TIME ZONE 'UTC')::date, spent.picodollars,
    spent.tokens
FROM unnest($1::text[], $2::numeric[], $3::numeric[]) AS spent (project_id, picodollars, tokens)
CROSS JOIN (VALUES ('day'), ('month')) AS periods (period)
ORDER BY spent.project_id, periods.period
ON CONFLICT (project_id, period, begins_on) DO UPDATE SET
    picodollars = known.picodollars + excluded.picodollars,
    tokens = known.tokens + excluded.tokens
