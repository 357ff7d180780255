-- Where a connection puts rows down before they are merged. Emptied by whoever merges them, and by every commit.
CREATE TEMPORARY TABLE staged_scores (LIKE scores.score_history) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE staged_configs (LIKE scores.score_config_history) ON COMMIT DELETE ROWS;
