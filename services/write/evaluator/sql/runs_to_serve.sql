-- Runs of which something may begin now, locked: what is claimed of a run is claimed by one worker at a time, so that
-- all together keep to its concurrency. Who was not served for longest comes first.
SELECT runs.project_id, runs.run_id, runs.max_concurrency
FROM evaluator.runs
WHERE
    runs.state = 1 AND runs.planned AND runs.outcome = 0
    AND (runs.ends_by IS NULL OR now() < runs.ends_by)
    AND (runs.max_picodollars IS NULL OR runs.spent_picodollars < runs.max_picodollars)
    AND runs.provider = ANY ($1::text[]) AND runs.providers <@ $5::text[]
    AND NOT (runs.project_id, runs.run_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
    AND EXISTS (
        SELECT FROM evaluator.jobs
        WHERE
            jobs.project_id = runs.project_id AND jobs.run_id = runs.run_id AND jobs.state = 0
            AND jobs.next_at <= now()
    )
ORDER BY runs.served_at
LIMIT $4
FOR UPDATE OF runs SKIP LOCKED
