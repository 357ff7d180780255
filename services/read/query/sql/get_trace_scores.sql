-- The scores that hold on one trace and its spans.
SELECT score_id, scored_at, span_id, name, type, number, label, comment, source, author, evaluator_version
FROM scores
WHERE project_id = $1 AND trace_id = $2 AND NOT retracted
ORDER BY name, scored_at DESC, score_id
