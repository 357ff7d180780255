-- This worker lives, and prolongs what it offers when a tenth of the time for that has passed; how many workers live.
WITH me AS (
    INSERT INTO evaluator.workers (owner, seen_at) VALUES ($1, now())
    ON CONFLICT (owner) DO UPDATE SET seen_at = now()
), gone AS (
    DELETE FROM evaluator.workers WHERE seen_at < now() - interval '1 hour'
), offered AS (
    INSERT INTO lodestream.providers AS known (provider, offered_until, kind)
    SELECT mine.provider, now() + $3::interval, mine.kind
    FROM unnest($2::text[], $4::text[]) AS mine (provider, kind)
    ORDER BY mine.provider
    ON CONFLICT (provider) DO UPDATE SET offered_until = excluded.offered_until, kind = excluded.kind
    WHERE known.offered_until < excluded.offered_until - $3::interval / 10 OR known.kind <> excluded.kind
)
SELECT count(*) + 1 FROM evaluator.workers WHERE seen_at > now() - interval '15 seconds' AND owner <> $1
