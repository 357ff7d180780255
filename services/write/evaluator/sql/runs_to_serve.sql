-- Runs of which something may begin now, locked: what is claimed of a run is claimed by one worker at a time, so that
-- all together keep to its concurrency. Of each project those that were not served for longest, and of all projects the
-- first of each before the second of any: a project with thousands of runs is one of many.
SELECT runs.project_id, runs.run_id, runs.max_concurrency
FROM evaluator.runs
JOIN (
    SELECT ready.project_id, ready.run_id, ready.served_at, ready.place
    FROM (
        SELECT DISTINCT project_id FROM evaluator.runs
        WHERE state = 1 AND outcome = 0 AND planned AND project_id <> ALL ($6::text[])
    ) AS projects
    CROSS JOIN LATERAL (
        SELECT open.project_id, open.run_id, open.served_at, row_number() OVER (ORDER BY open.served_at) AS place
        FROM (
            SELECT each.project_id, each.run_id, each.served_at
            FROM evaluator.runs AS each
            WHERE
                each.project_id = projects.project_id AND each.state = 1 AND each.outcome = 0 AND each.planned
                AND (each.ends_by IS NULL OR now() < each.ends_by)
                AND (each.max_picodollars IS NULL OR each.spent_picodollars < each.max_picodollars)
                AND each.provider = ANY ($1::text[]) AND each.providers <@ $5::text[]
                AND NOT (each.project_id, each.run_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
                AND EXISTS (
                    SELECT FROM evaluator.jobs
                    WHERE
                        jobs.project_id = each.project_id AND jobs.run_id = each.run_id AND jobs.state = 0
                        AND jobs.next_at <= now()
                )
            ORDER BY each.served_at
            LIMIT 4
        ) AS open
    ) AS ready
) AS turns USING (project_id, run_id)
WHERE runs.state = 1 AND runs.planned AND runs.outcome = 0
ORDER BY turns.place, turns.served_at
LIMIT $4
FOR UPDATE OF runs SKIP LOCKED
