-- How far the projections have come.

-- name: get_positions
-- A row for each partition of some projections' topics: few enough that it may be a look-up with a list of keys.
SELECT topic, partition, next_offset, last_record_at FROM projection_positions
WHERE (projection, topic) IN (SELECT * FROM unnest($1::text[], $2::text[]))

-- name: count_dead_letters
SELECT count(*) FROM dead_letters WHERE project_id = $1 AND redriven_at IS NULL AND projection NOT LIKE '%@%'

-- name: get_status
-- How far projections have come; not one that is being rebuilt (traces@rebuild) or was live before (traces@before).
SELECT projection, topic, partition, next_offset, last_record_at, halted_reason
FROM projection_positions
WHERE projection NOT LIKE '%@%'
ORDER BY projection, topic, partition
