-- Where a connection puts spans down that may be stored already. Made by the first batch of a connection that has any:
-- Postgres empties each such table at every commit, and that costs more than a small batch does.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_spans (LIKE spans) ON COMMIT DELETE ROWS;
