-- The averages of the scores of generations and of their traces, by the version they were made with.
SELECT version, score_name, score_count, score_average FROM scores.prompt_score_averages($1, $2, $3, $4)
ORDER BY version, score_name
