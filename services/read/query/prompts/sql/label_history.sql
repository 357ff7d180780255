-- A page of a prompt's label moves, newest first. label_history.py puts in conditions and limit.
SELECT revision, label, from_version, to_version, author, moved_at
FROM prompt_label_moves
WHERE project_id = $1 AND name = $2 {conditions}
ORDER BY revision DESC, label
LIMIT {limit}
