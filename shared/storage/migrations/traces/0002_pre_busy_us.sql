-- How long something ran, in µs: the lengths of a multirange added up.
CREATE FUNCTION busy_us(busy int8multirange) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(sum(upper(part) - lower(part)), 0)::bigint FROM unnest(busy) AS part);
