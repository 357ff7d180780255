-- How far projections have come; not one that is being rebuilt (traces@rebuild) or was live before (traces@before).
SELECT projection, topic, partition, next_offset, last_record_at, halted_reason
FROM projection_positions
WHERE projection NOT LIKE '%@%'
ORDER BY projection, topic, partition
