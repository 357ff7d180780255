-- A page of scores that hold, newest first. scores/lists.py puts in the conditions and where the last page ended.
SELECT
    score_id, scored_at, retracted, trace_id, span_id, session_id, run_id, name, type, number, label, comment, config_id,
    source, author, evaluator_version, environment, metadata, retraction_reason
FROM scores
WHERE project_id = $1 AND NOT retracted {conditions}
ORDER BY scored_at DESC, score_id DESC
LIMIT {limit}
