SELECT DISTINCT spans.prompt_name || ':' || spans.prompt_version
FROM traces
JOIN spans ON
    spans.project_id = traces.project_id AND spans.trace_id = traces.trace_id
    AND spans.start_day BETWEEN traces.start_at::date AND traces.last_start_at::date
WHERE
    traces.project_id = chosen.project_id AND traces.trace_id = chosen.trace_id
    AND (chosen.span_id IS NULL OR spans.span_id = chosen.span_id)
    AND spans.prompt_name IS NOT NULL AND spans.prompt_version IS NOT NULL
