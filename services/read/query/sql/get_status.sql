-- How far projections have come; also one that is being rebuilt (traces@rebuild), not what was live before (traces@before).
SELECT projection, topic, partition, next_offset, last_record_at, halted_reason
FROM projection_positions
WHERE projection NOT LIKE '%@before'
ORDER BY projection, topic, partition
