-- One row of evaluator.runs for each run whose task a worker runs.
--
-- state is ExperimentState of the contract: 1 running, 2 paused, above those the run has ended. outcome is
-- ExperimentOutcome: set, nothing of the run begins any more. asked_at is the log's offset of the request, look_at is
-- when the run is checked next, swept whether its jobs are deleted; told holds the pending events of its end.
-- jobs.state is JobState, see jobs.sql.

-- name: insert_run
INSERT INTO evaluator.runs (
    project_id, run_id, request, state, requested_at, partition, asked_at, provider, providers,
    max_concurrency, ends_by, max_picodollars, outcome, reason
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (project_id, run_id) DO NOTHING

-- name: read_request_offsets
-- At which offset of the log each run was requested, of those runs whose jobs are still kept.
SELECT runs.project_id, runs.run_id, runs.asked_at AS request_offset
FROM evaluator.runs
JOIN unnest($1::text[], $2::text[]) AS keys (project_id, run_id) USING (project_id, run_id)
WHERE NOT runs.swept

-- name: pause_or_resume
-- RUNNING (1) and PAUSED (2) become each other, once for each event.
WITH event AS (
    INSERT INTO evaluator.run_events (project_id, run_id, event_id)
    SELECT project_id, run_id, $3
    FROM evaluator.runs
    WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND asked_at < $5
    ON CONFLICT DO NOTHING
    RETURNING event_id
)
UPDATE evaluator.runs SET state = $4
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND EXISTS (SELECT FROM event)

-- name: end_run
-- The log has the end of the run.
WITH forgotten AS (DELETE FROM evaluator.run_events WHERE project_id = $1 AND run_id = $2)
UPDATE evaluator.runs SET state = $3, told = NULL
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND asked_at < $4

-- name: add_spending
UPDATE evaluator.runs SET spent_picodollars = spent_picodollars + spent.picodollars
FROM unnest($1::text[], $2::text[], $3::numeric[]) AS spent (project_id, run_id, picodollars)
WHERE runs.project_id = spent.project_id AND runs.run_id = spent.run_id

-- name: schedule_run_check
-- Have those of the runs checked now that have nothing left to do: they have come to their end.
UPDATE evaluator.runs SET look_at = now()
FROM unnest($1::text[], $2::text[]) AS keys (project_id, run_id)
WHERE
    runs.project_id = keys.project_id AND runs.run_id = keys.run_id AND runs.state IN (1, 2)
    AND NOT EXISTS (
        SELECT FROM evaluator.jobs
        WHERE
            jobs.project_id = runs.project_id AND jobs.run_id = runs.run_id AND jobs.state < 3 /* published */
            AND (
                jobs.state > 0 /* queued */
                OR (runs.max_picodollars IS NULL OR runs.spent_picodollars < runs.max_picodollars)
                AND (runs.ends_by IS NULL OR now() < runs.ends_by)
            )
    )

-- name: claim_due_runs
-- Runs to check now, each for one worker at a time: the others come to it some seconds later. The first run of each
-- project comes before the second run of any.
UPDATE evaluator.runs SET look_at = now() + interval '5 seconds'
WHERE (project_id, run_id) IN (
    SELECT runs.project_id, runs.run_id
    FROM evaluator.runs
    JOIN (
        SELECT project_id, run_id, look_at, row_number() OVER (PARTITION BY project_id ORDER BY look_at) AS place
        FROM evaluator.runs
        WHERE state IN (1, 2) AND look_at <= now()
    ) AS turns USING (project_id, run_id)
    WHERE runs.state IN (1, 2) AND runs.look_at <= now()
    ORDER BY turns.place, turns.look_at
    LIMIT $1
    FOR UPDATE OF runs SKIP LOCKED
)
RETURNING
    project_id, run_id, request, state, partition, requested_at, planned, provider, providers, outcome, reason,
    told AS pending_events

-- name: check_later
UPDATE evaluator.runs SET look_at = now() + $3::interval
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2)

-- name: read_run
SELECT request FROM evaluator.runs WHERE project_id = $1 AND run_id = $2

-- name: lock_unplanned_run
SELECT 1 FROM evaluator.runs
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND NOT planned AND outcome = 0
FOR UPDATE

-- name: mark_planned
UPDATE evaluator.runs SET planned = true, look_at = now() WHERE project_id = $1 AND run_id = $2

-- name: lock_open_run
-- While it is locked, no job of the run is claimed.
SELECT
    planned,
    coalesce(now() >= ends_by, false) AS out_of_time,
    coalesce(spent_picodollars >= max_picodollars, false) AS out_of_money
FROM evaluator.runs
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND outcome = 0
FOR UPDATE

-- name: set_outcome
-- How the run will be published to have ended; nothing of it begins any more.
UPDATE evaluator.runs SET outcome = $3, reason = $4, look_at = now()
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2) AND outcome = 0

-- name: decide_end
-- The events that end the run: those of the worker that decides first hold, and all workers publish the same.
UPDATE evaluator.runs SET told = coalesce(told, $3::bytea[])
WHERE project_id = $1 AND run_id = $2 AND state IN (1, 2)
RETURNING told AS pending_events

-- name: find_withdrawn_providers
-- Which of the providers no worker has offered for as long as one is waited for, and all that are offered.
SELECT
    ARRAY(
        SELECT required.provider
        FROM unnest($1::text[]) AS required (provider)
        LEFT JOIN lodestream.providers AS stored
            ON stored.provider = required.provider AND stored.offered_until > now()
        WHERE stored.provider IS NULL
    ) AS withdrawn,
    ARRAY(SELECT provider FROM lodestream.providers WHERE offered_until > now() ORDER BY provider) AS offered
