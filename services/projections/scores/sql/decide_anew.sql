-- What holds under these score ids, from their whole history: an event was told again, perhaps otherwise. Needs the locks
-- that supersede.sql takes.
UPDATE scores AS present SET
    event_id = last.event_id,
    scored_at = last.scored_at,
    digest = last.digest,
    retracted = last.retracted,
    trace_id = last.trace_id,
    span_id = last.span_id,
    session_id = last.session_id,
    run_id = last.run_id,
    name = last.name,
    type = last.type,
    number = last.number,
    label = last.label,
    comment = last.comment,
    config_id = last.config_id,
    source = last.source,
    author = last.author,
    evaluator_version = last.evaluator_version,
    environment = last.environment,
    metadata = last.metadata,
    retraction_reason = last.retraction_reason
FROM unnest($1::text[], $2::text[]) AS again (project_id, score_id)
CROSS JOIN LATERAL (
    SELECT * FROM score_history
    WHERE score_history.project_id = again.project_id AND score_history.score_id = again.score_id
    ORDER BY scored_at DESC, event_id DESC
    LIMIT 1
) AS last
WHERE
    present.project_id = again.project_id AND present.score_id = again.score_id
    AND (present.event_id, present.scored_at, present.digest) <> (last.event_id, last.scored_at, last.digest)
