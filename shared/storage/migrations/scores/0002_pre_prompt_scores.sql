-- The body names tables of the schema traces, which may be made after this one.
SET LOCAL check_function_bodies = off;

-- The averages of the scores that the generations of a prompt have, and their traces, by version and name; of generations
-- that start in [since, before), either of which may be null. A score counts once for each version.
CREATE FUNCTION prompt_score_averages(of_project text, of_prompt text, since timestamptz, before timestamptz)
RETURNS TABLE (version integer, score_name text, score_count bigint, score_average double precision)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT given.prompt_version, given.name, count(*), avg(given.number::numeric)::double precision
    FROM (
        SELECT DISTINCT spans.prompt_version, its.score_id, its.name, its.number
        FROM traces.spans
        JOIN scores.scores AS its ON
            its.project_id = spans.project_id AND its.trace_id = spans.trace_id
            AND (its.span_id IS NULL OR its.span_id = spans.span_id)
        WHERE
            spans.project_id = of_project AND spans.prompt_name = of_prompt AND spans.prompt_version IS NOT NULL
            AND (since IS NULL OR (spans.start_at >= since AND spans.start_day >= (since AT TIME ZONE 'UTC')::date))
            AND (before IS NULL OR (spans.start_at < before AND spans.start_day <= (before AT TIME ZONE 'UTC')::date))
            AND its.number IS NOT NULL AND NOT its.retracted
    ) AS given
    GROUP BY given.prompt_version, given.name
$$;
