-- Inserts the staged spans that are new and locks the rows of those that are not, all in one pass in key order, so that
-- writers of the same spans queue and never deadlock. Returns what was inserted.
WITH staged AS (DELETE FROM staged_spans RETURNING *)
INSERT INTO spans
SELECT * FROM staged ORDER BY project_id COLLATE "C", trace_id, span_id, start_day
ON CONFLICT (project_id, trace_id, span_id, start_day) DO UPDATE SET name = spans.name WHERE false
RETURNING project_id, trace_id, span_id, start_day
