-- Where a connection puts summaries down before they are merged. Emptied by whoever merges them, and by every commit.
CREATE TEMPORARY TABLE staged_traces (LIKE traces) ON COMMIT DELETE ROWS;
