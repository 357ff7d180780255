WITH me AS (
    INSERT INTO evaluator.workers (owner, seen_at) VALUES ($1, now())
    ON CONFLICT (owner) DO UPDATE SET seen_at = now()
), gone AS (
    DELETE FROM evaluator.workers WHERE seen_at < now() - interval '1 hour'
)
SELECT count(*) + 1 FROM evaluator.workers WHERE seen_at > now() - interval '15 seconds' AND owner <> $1
