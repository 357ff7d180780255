-- Where a connection puts rows down before they are merged. Emptied by whoever merges them, and by every commit.
CREATE TEMPORARY TABLE staged_spans (LIKE spans) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_traces (LIKE traces) ON COMMIT DELETE ROWS;
