-- Makes room for summaries that were made anew.
DELETE FROM traces
USING unnest($1::text[], $2::bytea[]) AS old (project_id, trace_id)
WHERE traces.project_id = old.project_id AND traces.trace_id = old.trace_id
