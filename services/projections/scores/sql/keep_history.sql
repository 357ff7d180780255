-- The staged events; of an event told before the first telling is kept. Returns the events that are new. Needs the locks
-- that supersede.sql takes.
WITH staged AS (DELETE FROM staged_scores RETURNING *),
kept AS (
    INSERT INTO score_history AS told
    SELECT * FROM staged
    ON CONFLICT (project_id, score_id, event_id) DO UPDATE SET
        scored_at = excluded.scored_at,
        digest = excluded.digest,
        retracted = excluded.retracted,
        trace_id = excluded.trace_id,
        span_id = excluded.span_id,
        session_id = excluded.session_id,
        run_id = excluded.run_id,
        name = excluded.name,
        type = excluded.type,
        number = excluded.number,
        label = excluded.label,
        comment = excluded.comment,
        config_id = excluded.config_id,
        source = excluded.source,
        author = excluded.author,
        evaluator_version = excluded.evaluator_version,
        environment = excluded.environment,
        metadata = excluded.metadata,
        retraction_reason = excluded.retraction_reason
    WHERE (excluded.scored_at, excluded.digest) < (told.scored_at, told.digest)
    RETURNING project_id, score_id, event_id, xmax = 0 AS is_new  -- a row just inserted has never been locked
)
SELECT project_id, score_id, event_id FROM kept WHERE is_new
