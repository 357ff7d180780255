-- This worker lives, and prolongs what it offers when a tenth of the time for that has passed; how many workers live.
WITH me AS (
    INSERT INTO evaluator.workers (owner, seen_at) VALUES ($1, now())
    ON CONFLICT (owner) DO UPDATE SET seen_at = now()
), gone AS (
    DELETE FROM evaluator.workers WHERE seen_at < now() - interval '1 hour'
), offered AS (
    INSERT INTO lodestream.providers AS known (provider, offered_until, kind, granted_only, models)
    SELECT
        mine.provider, now() + $2::interval, mine.kind, mine.granted_only,
        ARRAY(SELECT jsonb_array_elements_text(mine.models::jsonb))
    FROM unnest($3::text[], $4::text[], $5::boolean[], $6::text[]) AS mine (provider, kind, granted_only, models)
    ORDER BY mine.provider
    ON CONFLICT (provider) DO UPDATE SET
        offered_until = excluded.offered_until,
        kind = excluded.kind,
        granted_only = excluded.granted_only,
        models = excluded.models
    WHERE
        known.offered_until < excluded.offered_until - $2::interval / 10
        OR (known.kind, known.granted_only, known.models)
        IS DISTINCT FROM (excluded.kind, excluded.granted_only, excluded.models)
)
SELECT count(*) + 1 FROM evaluator.workers WHERE seen_at > now() - interval '15 seconds' AND owner <> $1
