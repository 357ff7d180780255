-- The scores that hold on some spans of a trace, and on the trace itself.
SELECT score_id, scored_at, span_id, name, type, number, label, comment, source, author, evaluator_version
FROM scores
WHERE
    project_id = $1 AND trace_id = $2 AND NOT retracted
    AND (span_id = ANY($3::bytea[]) OR ($4 AND span_id IS NULL))
ORDER BY name, scored_at DESC, score_id
LIMIT $5
