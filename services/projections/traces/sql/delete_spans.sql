-- Makes room for rows that were folded anew.
DELETE FROM spans
USING unnest($1::text[], $2::bytea[], $3::bytea[], $4::date[]) AS old (project_id, trace_id, span_id, start_day)
WHERE spans.project_id = old.project_id AND spans.trace_id = old.trace_id
    AND spans.span_id = old.span_id AND spans.start_day = old.start_day
