-- The queue: one row of evaluator.jobs for each item and repetition of a run.
--
-- jobs.state is JobState: 0 queued, 1 running, 2 decided, 3 published. The numbers are written out, for parameters
-- would keep Postgres from the partial indexes. runs.state is ExperimentState of the contract: 1 running, 2 paused,
-- above those the run has ended. jobs.told holds the pending events of a decided result. Every statement that locks
-- several jobs locks them in key order.

-- name: select_servable_runs
-- Lock the runs of which a job may begin now: one worker at a time claims jobs of a run, so that all workers together
-- keep to its concurrency. In each project the runs that were served longest ago; over all projects, the first run of
-- each before the second run of any, so that a project with thousands of runs is one of many.
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
            SELECT candidate.project_id, candidate.run_id, candidate.served_at
            FROM evaluator.runs AS candidate
            WHERE
                candidate.project_id = projects.project_id
                AND candidate.state = 1 AND candidate.outcome = 0 AND candidate.planned
                AND (candidate.ends_by IS NULL OR now() < candidate.ends_by)
                AND (candidate.max_picodollars IS NULL OR candidate.spent_picodollars < candidate.max_picodollars)
                AND candidate.provider = ANY ($1::text[]) AND candidate.providers <@ $5::text[]
                AND NOT (candidate.project_id, candidate.run_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))
                AND EXISTS (
                    SELECT FROM evaluator.jobs
                    WHERE
                        jobs.project_id = candidate.project_id AND jobs.run_id = candidate.run_id
                        AND jobs.state = 0 /* queued */ AND jobs.next_at <= now()
                )
            ORDER BY candidate.served_at
            LIMIT 4
        ) AS open
    ) AS ready
) AS turns USING (project_id, run_id)
WHERE runs.state = 1 AND runs.planned AND runs.outcome = 0
ORDER BY turns.place, turns.served_at
LIMIT $4
FOR UPDATE OF runs SKIP LOCKED

-- name: count_run_backlog
-- How many jobs of each run could begin now (at most $3), and how many of the run and of its project are running.
SELECT
    requested.project_id,
    requested.run_id,
    (
        SELECT count(*) FROM (
            SELECT FROM evaluator.jobs
            WHERE
                jobs.project_id = requested.project_id AND jobs.run_id = requested.run_id
                AND jobs.state = 0 /* queued */ AND jobs.next_at <= now()
            LIMIT $3
        ) AS ready
    ) AS ready,
    (
        SELECT count(*) FROM evaluator.jobs
        WHERE jobs.project_id = requested.project_id AND jobs.run_id = requested.run_id AND jobs.state = 1 /* running */
    ) AS running_of_run,
    (
        SELECT count(*) FROM evaluator.jobs
        WHERE
            jobs.project_id = requested.project_id AND jobs.state = 1 /* running */
            AND jobs.run_id IN (
                SELECT runs.run_id FROM evaluator.runs
                WHERE runs.project_id = requested.project_id AND runs.state IN (1, 2)
            )
    ) AS running_of_project
FROM unnest($1::text[], $2::text[]) AS requested (project_id, run_id)

-- name: claim_jobs
-- Take so many jobs of each run, and raise the fence of each.
WITH picked AS (
    SELECT ready.project_id, ready.run_id, ready.item_id, ready.repetition
    FROM unnest($1::text[], $2::text[], $3::integer[]) AS share (project_id, run_id, size)
    CROSS JOIN LATERAL (
        SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
        FROM evaluator.jobs
        WHERE
            jobs.project_id = share.project_id AND jobs.run_id = share.run_id
            AND jobs.state = 0 /* queued */ AND jobs.next_at <= now()
        ORDER BY jobs.next_at, jobs.ordinal
        LIMIT share.size
        FOR UPDATE SKIP LOCKED
    ) AS ready
), served AS (
    UPDATE evaluator.runs SET served_at = clock_timestamp()
    FROM (SELECT DISTINCT project_id, run_id FROM picked) AS claimed
    WHERE runs.project_id = claimed.project_id AND runs.run_id = claimed.run_id
)
UPDATE evaluator.jobs SET
    state = 1 /* running */,
    owner = $4,
    fence = jobs.fence + 1,
    attempts = jobs.attempts + 1,
    lease_until = now() + $5::interval
FROM picked
WHERE
    jobs.project_id = picked.project_id AND jobs.run_id = picked.run_id
    AND jobs.item_id = picked.item_id AND jobs.repetition = picked.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, jobs.fence, jobs.attempts

-- name: renew_leases
-- Prolong the leases of this worker's jobs: running ones, unless their run has ended, and decided ones.
WITH held AS (
    SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FROM evaluator.jobs
    JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[], $5::bigint[])
        AS own (project_id, run_id, item_id, repetition, fence)
        USING (project_id, run_id, item_id, repetition, fence)
    JOIN evaluator.runs USING (project_id, run_id)
    WHERE jobs.owner = $6 AND (jobs.state = 2 /* decided */ OR jobs.state = 1 /* running */ AND runs.state IN (1, 2))
    ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FOR UPDATE OF jobs
)
UPDATE evaluator.jobs SET lease_until = now() + $7::interval
FROM held
WHERE
    jobs.project_id = held.project_id AND jobs.run_id = held.run_id
    AND jobs.item_id = held.item_id AND jobs.repetition = held.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition

-- name: requeue_expired
-- Queue jobs again whose worker let the lease run out. Should it wake, the fence refuses it.
UPDATE evaluator.jobs SET state = 0 /* queued */, owner = NULL, lease_until = NULL, next_at = now()
WHERE (project_id, run_id, item_id, repetition) IN (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE state = 1 /* running */ AND lease_until < now()
    ORDER BY lease_until
    LIMIT 500
    FOR UPDATE SKIP LOCKED
)

-- name: take_over_decided
-- Take over results that a worker has decided whose lease ran out: their events are published as they are.
UPDATE evaluator.jobs SET owner = $1, fence = fence + 1, lease_until = now() + $2::interval
WHERE (project_id, run_id, item_id, repetition) IN (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE state = 2 /* decided */ AND lease_until < now()
    ORDER BY lease_until
    LIMIT $3
    FOR UPDATE SKIP LOCKED
)
RETURNING project_id, run_id, item_id, repetition, fence, told AS pending_events

-- name: reschedule
-- Queue a job again for later; $7 is taken off the count of its attempts.
UPDATE evaluator.jobs SET
    state = 0 /* queued */,
    owner = NULL,
    lease_until = NULL,
    next_at = now() + $6::interval,
    attempts = attempts - $7
WHERE
    project_id = $1 AND run_id = $2 AND item_id = $3 AND repetition = $4 AND fence = $5 AND owner = $8
    AND state = 1 /* running */

-- name: decide
-- Keep the events of a job's result, unless another worker holds the job by now or its run has ended. A worker that has
-- decided the job already may decide it again.
UPDATE evaluator.jobs SET state = 2 /* decided */, told = $6, lease_until = now() + $8::interval
FROM (
    SELECT held.project_id, held.run_id, held.item_id, held.repetition, held.state AS state_before
    FROM evaluator.jobs AS held
    JOIN evaluator.runs USING (project_id, run_id)
    WHERE
        held.project_id = $1 AND held.run_id = $2 AND held.item_id = $3 AND held.repetition = $4
        AND held.fence = $5 AND held.owner = $7
        AND (held.state = 2 /* decided */ OR held.state = 1 /* running */ AND runs.state IN (1, 2))
    FOR UPDATE OF held
) AS own
WHERE
    jobs.project_id = own.project_id AND jobs.run_id = own.run_id
    AND jobs.item_id = own.item_id AND jobs.repetition = own.repetition
RETURNING jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, own.state_before

-- name: mark_published
-- The log has the results of these jobs.
WITH published AS (
    SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FROM evaluator.jobs
    JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS keys (project_id, run_id, item_id, repetition)
        USING (project_id, run_id, item_id, repetition)
    WHERE jobs.state = 2 /* decided */
    ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
    FOR UPDATE OF jobs
)
UPDATE evaluator.jobs SET state = 3 /* published */, told = NULL, owner = NULL, lease_until = NULL
FROM published
WHERE
    jobs.project_id = published.project_id AND jobs.run_id = published.run_id
    AND jobs.item_id = published.item_id AND jobs.repetition = published.repetition

-- name: release_all
-- A worker that ends gives back all it holds, at once; whoever comes first publishes what it has decided.
WITH own AS (
    SELECT project_id, run_id, item_id, repetition
    FROM evaluator.jobs
    WHERE owner = $1 AND state IN (1 /* running */, 2 /* decided */)
    ORDER BY project_id, run_id, item_id, repetition
    FOR UPDATE
)
UPDATE evaluator.jobs SET
    state = CASE jobs.state WHEN 1 /* running */ THEN 0 /* queued */ ELSE jobs.state END,
    owner = NULL,
    lease_until = CASE jobs.state WHEN 1 /* running */ THEN NULL ELSE '-infinity'::timestamptz END,
    next_at = CASE jobs.state WHEN 1 /* running */ THEN now() ELSE jobs.next_at END
FROM own
WHERE
    jobs.project_id = own.project_id AND jobs.run_id = own.run_id
    AND jobs.item_id = own.item_id AND jobs.repetition = own.repetition

-- name: heartbeat
-- This worker is alive; it prolongs the offer of its providers once a tenth of the time for that has passed. Returns
-- how many workers are alive.
WITH own AS (
    INSERT INTO evaluator.workers (owner, seen_at) VALUES ($1, now())
    ON CONFLICT (owner) DO UPDATE SET seen_at = now()
), gone AS (
    DELETE FROM evaluator.workers WHERE seen_at < now() - interval '1 hour'
), offered AS (
    INSERT INTO lodestream.providers AS stored (provider, offered_until, kind, granted_only, models)
    SELECT
        offer.provider, now() + $2::interval, offer.kind, offer.granted_only,
        ARRAY(SELECT jsonb_array_elements_text(offer.models::jsonb))
    FROM unnest($3::text[], $4::text[], $5::boolean[], $6::text[]) AS offer (provider, kind, granted_only, models)
    ORDER BY offer.provider
    ON CONFLICT (provider) DO UPDATE SET
        offered_until = excluded.offered_until,
        kind = excluded.kind,
        granted_only = excluded.granted_only,
        models = excluded.models
    WHERE
        stored.offered_until < excluded.offered_until - $2::interval / 10
        OR (stored.kind, stored.granted_only, stored.models)
        IS DISTINCT FROM (excluded.kind, excluded.granted_only, excluded.models)
)
SELECT count(*) + 1 FROM evaluator.workers WHERE seen_at > now() - interval '15 seconds' AND owner <> $1

-- name: count_queued
-- How many jobs of open runs are queued; counted to 10,000.
SELECT count(*)
FROM (
    SELECT
    FROM evaluator.runs
    JOIN evaluator.jobs USING (project_id, run_id)
    WHERE runs.state IN (1, 2) AND jobs.state = 0 /* queued */
    LIMIT 10000
) AS queued

-- name: plan_jobs
-- A job for each item of the dataset's version and each repetition, but for those that the log has a result of.
INSERT INTO evaluator.jobs (project_id, run_id, item_id, repetition, ordinal, state)
SELECT $1, $2, item_id, repetition, row_number() OVER (ORDER BY repetition, first_version, item_id), 0 /* queued */
FROM experiments.dataset_items
CROSS JOIN generate_series(0, $5::integer - 1) AS repetition
WHERE
    project_id = $1 AND dataset_id = $3 AND version <= $4 AND (until_version IS NULL OR until_version > $4)
    AND NOT archived AND ($6::text[] = '{}' OR splits && $6::text[])
ON CONFLICT (project_id, run_id, item_id, repetition) DO NOTHING

-- name: lock_jobs
-- Lock jobs and read their states.
SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition, jobs.state
FROM evaluator.jobs
JOIN unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS keys (project_id, run_id, item_id, repetition)
    USING (project_id, run_id, item_id, repetition)
ORDER BY jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
FOR UPDATE OF jobs

-- name: upsert_published
-- The log has results of these jobs; one that is not planned yet is published before it begins.
INSERT INTO evaluator.jobs AS stored (project_id, run_id, item_id, repetition, state)
SELECT results.project_id, results.run_id, results.item_id, results.repetition, 3 /* published */
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS results (project_id, run_id, item_id, repetition)
ON CONFLICT (project_id, run_id, item_id, repetition) DO UPDATE SET
    state = 3 /* published */,
    owner = NULL,
    lease_until = NULL,
    told = NULL
WHERE stored.state < 3 /* published */

-- name: run_progress
-- Whether a run has jobs that are queued, and jobs that are running or decided.
SELECT
    EXISTS (
        SELECT FROM evaluator.jobs WHERE project_id = $1 AND run_id = $2 AND state = 0 /* queued */
    ) AS queued,
    EXISTS (
        SELECT FROM evaluator.jobs WHERE project_id = $1 AND run_id = $2 AND state IN (1 /* running */, 2 /* decided */)
    ) AS in_progress

-- name: count_missing_results
-- How many results the log has that the read model does not have yet.
SELECT count(*)
FROM evaluator.jobs
LEFT JOIN experiments.experiment_items AS results USING (project_id, run_id, item_id, repetition)
WHERE jobs.project_id = $1 AND jobs.run_id = $2 AND jobs.state = 3 /* published */ AND results.item_id IS NULL

-- name: delete_finished_jobs
-- Delete the jobs of runs that have ended; results that are decided are published first.
WITH ended AS (
    SELECT project_id, run_id FROM evaluator.runs WHERE state > 2 AND NOT swept LIMIT 16
), deleted AS (
    DELETE FROM evaluator.jobs WHERE (project_id, run_id, item_id, repetition) IN (
        SELECT jobs.project_id, jobs.run_id, jobs.item_id, jobs.repetition
        FROM evaluator.jobs
        JOIN ended USING (project_id, run_id)
        WHERE jobs.state <> 2 /* decided */
        LIMIT 5000
        FOR UPDATE OF jobs SKIP LOCKED
    )
)
UPDATE evaluator.runs SET swept = true
FROM ended
WHERE
    runs.project_id = ended.project_id AND runs.run_id = ended.run_id
    AND NOT EXISTS (
        SELECT FROM evaluator.jobs WHERE jobs.project_id = runs.project_id AND jobs.run_id = runs.run_id
    )
