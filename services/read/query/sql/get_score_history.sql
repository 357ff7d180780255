-- All that was said under one score id, newest first.
SELECT
    score_id, scored_at, retracted, trace_id, span_id, session_id, run_id, name, type, number, label, comment, config_id,
    source, author, evaluator_version, environment, metadata, retraction_reason
FROM score_history
WHERE project_id = $1 AND score_id = $2
ORDER BY scored_at DESC, event_id DESC
