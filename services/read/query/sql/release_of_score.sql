SELECT coalesce((
    SELECT traces.release FROM traces
    WHERE traces.project_id = chosen.project_id AND traces.trace_id = chosen.trace_id
), '')
