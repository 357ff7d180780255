-- A summary has a bounded size, whatever its trace is. What is written here is written in folding/summary.py too.

-- The grain of a trace's busy times, in bits of a microsecond. 0: they are exact, as those of up to 1,000 spans are. It only
-- grows, with the number of spans and the time from the first start to the last end.
CREATE FUNCTION grain_bits(span_count bigint, start_at timestamptz, end_at timestamptz) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN span_count <= 1000 OR end_at IS NULL OR end_at <= start_at THEN 0
    ELSE length(ltrim(((CAST(extract(epoch FROM end_at - start_at) * 1000000 AS bigint) >> 11)::bit(64))::text, '0'))
END;

-- Busy times with their ends moved outwards to multiples of the grain: at most 1,024 intervals and some. To round at once or
-- by way of finer grains is the same.
CREATE FUNCTION coarse(busy int8multirange, span_count bigint, start_at timestamptz, end_at timestamptz) RETURNS int8multirange
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(range_agg(int8range(
        (lower(part) >> bits) << bits,
        -((-upper(part) >> bits) << bits)
    )), '{}')
    FROM unnest(busy) AS part, grain_bits(span_count, start_at, end_at) AS bits
);

-- The first hundred by code points.
CREATE OR REPLACE FUNCTION union_sorted(a text[], b text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(array_agg(tag ORDER BY tag), '{}')
    FROM (SELECT DISTINCT tag COLLATE "C" AS tag FROM unnest(a || b) AS tag ORDER BY 1 LIMIT 100) AS first_tags
);

UPDATE traces SET
    tags = union_sorted(tags, '{}'),
    retrieval_busy = coarse(retrieval_busy, span_count, start_at, end_at),
    generation_busy = coarse(generation_busy, span_count, start_at, end_at),
    tool_busy = coarse(tool_busy, span_count, start_at, end_at),
    child_busy = coarse(child_busy, span_count, start_at, end_at)
WHERE span_count > 1000 OR cardinality(tags) > 100;
