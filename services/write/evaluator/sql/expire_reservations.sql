-- What workers had reserved that died before they knew what a call has cost: it counts as spent.
WITH expired AS (
    DELETE FROM lodestream.spending_reservations
    WHERE project_id = $1 AND expires_at < now()
    RETURNING picodollars, tokens
)
INSERT INTO lodestream.spending AS known (project_id, period, begins_on, picodollars, tokens)
SELECT
    $1, periods.period, date_trunc(periods.period, now() AT TIME ZONE 'UTC')::date, sum(expired.picodollars),
    sum(expired.tokens)
FROM expired
CROSS JOIN (VALUES ('day'), ('month')) AS periods (period)
GROUP BY periods.period
ORDER BY periods.period
ON CONFLICT (project_id, period, begins_on) DO UPDATE SET
    picodollars = known.picodollars + excluded.picodollars,
    tokens = known.tokens + excluded.tokens
