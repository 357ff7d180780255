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
