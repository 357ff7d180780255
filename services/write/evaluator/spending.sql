-- What projects spend on model calls, and what is reserved for calls that are being made.

-- name: lock_caps
SELECT FROM lodestream.spending_caps WHERE project_id = $1 ORDER BY period FOR UPDATE

-- name: sum_reservations
SELECT coalesce(sum(picodollars), 0) AS picodollars, coalesce(sum(tokens), 0) AS tokens
FROM lodestream.spending_reservations WHERE project_id = $1

-- name: insert_reservation
INSERT INTO lodestream.spending_reservations VALUES ($1, $2, now() + $3::interval, $4, $5)

-- name: delete_reservation
DELETE FROM lodestream.spending_reservations WHERE project_id = $1 AND reservation_id = $2

-- name: add_to_periods
-- Add to what projects have spent today and in this month, in key order.
INSERT INTO lodestream.spending AS stored (project_id, period, begins_on, picodollars, tokens)
SELECT
    spent.project_id, periods.period, date_trunc(periods.period, now() AT TIME ZONE 'UTC')::date, spent.picodollars,
    spent.tokens
FROM unnest($1::text[], $2::numeric[], $3::numeric[]) AS spent (project_id, picodollars, tokens)
CROSS JOIN (VALUES ('day'), ('month')) AS periods (period)
ORDER BY spent.project_id, periods.period
ON CONFLICT (project_id, period, begins_on) DO UPDATE SET
    picodollars = stored.picodollars + excluded.picodollars,
    tokens = stored.tokens + excluded.tokens

-- name: expire_reservations
-- What workers had reserved that died before they knew what a call costs counts as spent.
WITH expired AS (
    DELETE FROM lodestream.spending_reservations
    WHERE project_id = $1 AND expires_at < now()
    RETURNING picodollars, tokens
)
INSERT INTO lodestream.spending AS stored (project_id, period, begins_on, picodollars, tokens)
SELECT
    $1, periods.period, date_trunc(periods.period, now() AT TIME ZONE 'UTC')::date, sum(expired.picodollars),
    sum(expired.tokens)
FROM expired
CROSS JOIN (VALUES ('day'), ('month')) AS periods (period)
GROUP BY periods.period
ORDER BY periods.period
ON CONFLICT (project_id, period, begins_on) DO UPDATE SET
    picodollars = stored.picodollars + excluded.picodollars,
    tokens = stored.tokens + excluded.tokens
