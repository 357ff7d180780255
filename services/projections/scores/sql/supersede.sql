-- The last staged event of each score id, where it is later than what holds. Locks the row of each id, later or not, in key
-- order, so that writers of the same ids queue and never deadlock.
INSERT INTO scores AS present
SELECT DISTINCT ON (project_id COLLATE "C", score_id COLLATE "C") *
FROM staged_scores
ORDER BY project_id COLLATE "C", score_id COLLATE "C", scored_at DESC, event_id DESC
ON CONFLICT (project_id, score_id) DO UPDATE SET
    event_id = excluded.event_id,
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
WHERE (excluded.scored_at, excluded.event_id) > (present.scored_at, present.event_id)
