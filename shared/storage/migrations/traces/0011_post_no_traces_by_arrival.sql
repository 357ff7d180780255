-- TailTraces read it; now it reads traces_by_change.
DROP INDEX traces_by_arrival;
