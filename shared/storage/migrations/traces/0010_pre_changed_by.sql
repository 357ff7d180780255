-- Which transaction changed a trace last: what was committed since a snapshot is found by it, whatever any clock says. It is
-- the only column that does not follow from the log.
ALTER TABLE traces ADD COLUMN changed_by xid8 DEFAULT pg_current_xact_id();
CREATE INDEX traces_by_change ON traces (project_id, changed_by, trace_id);
