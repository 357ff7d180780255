-- How far projections have come.
SELECT projection, topic, partition, next_offset, last_record_at, halted_reason
FROM projection_positions
ORDER BY projection, topic, partition
