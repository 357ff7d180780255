-- One row a session: at any time exactly what the rows of `traces` with this session add up to, whatever their history.
-- The triggers below keep it so, in the transaction that changes the traces. One transaction at a time changes sessions: an
-- upsert of traces fires two triggers, so row locks could not be taken in one order. It holds the lock for its last steps.
CREATE TABLE sessions (
    project_id    text NOT NULL,
    session_id    text NOT NULL,
    start_at      timestamptz NOT NULL,  -- of its first trace
    last_start_at timestamptz NOT NULL,  -- of its latest span: when something happened last
    end_at        timestamptz NOT NULL,
    trace_count   bigint NOT NULL,
    error_count   bigint NOT NULL,  -- traces with an error
    -- Sums without a bound: no trace is refused because of the others of its session.
    input_tokens  numeric NOT NULL,
    output_tokens numeric NOT NULL,
    total_tokens  numeric NOT NULL,
    cost_picos    numeric NOT NULL,
    user_ids      text[] NOT NULL,  -- the first hundred by code points, in that order
    environments  text[] NOT NULL,
    PRIMARY KEY (project_id, session_id)
);
CREATE INDEX sessions_by_activity ON sessions (project_id, last_start_at, session_id);

-- The first hundred different texts, by code points. The aggregates below say the same of columns.
CREATE FUNCTION first_hundred(texts text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT coalesce(array_agg(told ORDER BY told), '{}')
    FROM (SELECT DISTINCT told COLLATE "C" AS told FROM unnest(texts) AS told ORDER BY 1 LIMIT 100)
        AS distinct_texts
);

-- What the traces add up to that are there. The caller holds the lock.
CREATE FUNCTION sum_up_sessions(projects text[], ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sessions SET
        start_at = summed.start_at,
        last_start_at = summed.last_start_at,
        end_at = summed.end_at,
        trace_count = summed.trace_count,
        error_count = summed.error_count,
        input_tokens = summed.input_tokens,
        output_tokens = summed.output_tokens,
        total_tokens = summed.total_tokens,
        cost_picos = summed.cost_picos,
        user_ids = summed.user_ids,
        environments = summed.environments
    FROM unnest(projects, ids) AS wanted (project_id, session_id)
    CROSS JOIN LATERAL (
        SELECT
            min(traces.start_at) AS start_at, max(traces.last_start_at) AS last_start_at,
            max(greatest(traces.end_at, traces.last_start_at)) AS end_at,
            count(*) AS trace_count, count(*) FILTER (WHERE traces.level >= 4) AS error_count,
            sum(traces.input_tokens) AS input_tokens, sum(traces.output_tokens) AS output_tokens,
            sum(traces.total_tokens) AS total_tokens, sum(traces.cost_picos) AS cost_picos,
            coalesce((array_agg(DISTINCT traces.user_id COLLATE "C") FILTER (WHERE traces.user_id IS NOT NULL))[:100], '{}') AS user_ids,
            coalesce((array_agg(DISTINCT traces.environment COLLATE "C") FILTER (WHERE traces.environment IS NOT NULL))[:100], '{}') AS environments
        FROM traces
        WHERE traces.project_id = wanted.project_id AND traces.session_id = wanted.session_id
        HAVING count(*) > 0
    ) AS summed
    WHERE sessions.project_id = wanted.project_id AND sessions.session_id = wanted.session_id;
    DELETE FROM sessions
    USING unnest(projects, ids) AS wanted (project_id, session_id)
    WHERE sessions.project_id = wanted.project_id AND sessions.session_id = wanted.session_id AND NOT EXISTS (
        SELECT FROM traces WHERE traces.project_id = wanted.project_id AND traces.session_id = wanted.session_id
    );
END $$;

-- New traces only add: least, greatest, sums, unions.
CREATE FUNCTION traces_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM added WHERE session_id IS NOT NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(1936028531, TG_RELID::integer);  -- "sess"
    INSERT INTO sessions
    SELECT
        project_id, session_id, min(start_at), max(last_start_at), max(greatest(end_at, last_start_at)),
        count(*), count(*) FILTER (WHERE level >= 4),
        sum(input_tokens), sum(output_tokens), sum(total_tokens), sum(cost_picos),
        coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}'),
        coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}')
    FROM added
    WHERE session_id IS NOT NULL
    GROUP BY project_id, session_id
    ON CONFLICT (project_id, session_id) DO UPDATE SET
        start_at = least(sessions.start_at, excluded.start_at),
        last_start_at = greatest(sessions.last_start_at, excluded.last_start_at),
        end_at = greatest(sessions.end_at, excluded.end_at),
        trace_count = sessions.trace_count + excluded.trace_count,
        error_count = sessions.error_count + excluded.error_count,
        input_tokens = sessions.input_tokens + excluded.input_tokens,
        output_tokens = sessions.output_tokens + excluded.output_tokens,
        total_tokens = sessions.total_tokens + excluded.total_tokens,
        cost_picos = sessions.cost_picos + excluded.cost_picos,
        user_ids = CASE
            WHEN sessions.user_ids @> excluded.user_ids THEN sessions.user_ids
            ELSE first_hundred(sessions.user_ids || excluded.user_ids)
        END,
        environments = CASE
            WHEN sessions.environments @> excluded.environments THEN sessions.environments
            ELSE first_hundred(sessions.environments || excluded.environments)
        END;
    -- Of an upsert the updated traces come first. What they had summed up anew held the inserted ones already.
    PERFORM sum_up_sessions(its.project_ids, its.session_ids)
    FROM (
        SELECT array_agg(project_id) AS project_ids, array_agg(session_id) AS session_ids
        FROM (SELECT DISTINCT project_id, session_id FROM added) AS touched
        WHERE nullif(current_setting('lodestream.summed_up', true), '')::jsonb ? jsonb_build_array(project_id, session_id)::text
    ) AS its
    WHERE its.session_ids IS NOT NULL;
    PERFORM set_config('lodestream.summed_up', '[]', true);
    RETURN NULL;
END $$;

-- Traces that changed add the difference; a session that lost something (a trace that moved to another session, a user, a
-- moment at either end) is summed up anew, which is rare: spans that come later only ever add.
CREATE FUNCTION traces_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    projects text[];
    ids text[];
BEGIN
    IF NOT EXISTS (SELECT FROM added WHERE session_id IS NOT NULL UNION ALL SELECT FROM removed WHERE session_id IS NOT NULL)
    THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(1936028531, TG_RELID::integer);  -- "sess"
    WITH changes AS (
        SELECT
            1 AS sign, false AS loses, project_id, session_id, start_at, last_start_at, end_at, level,
            input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
        FROM added
        WHERE session_id IS NOT NULL
        UNION ALL
        SELECT
            -1, now.session_id IS DISTINCT FROM was.session_id
            OR now.start_at > was.start_at
            OR now.last_start_at < was.last_start_at
            OR now.end_at < was.end_at OR (now.end_at IS NULL AND was.end_at IS NOT NULL)
            OR (was.user_id IS NOT NULL AND now.user_id IS DISTINCT FROM was.user_id)
            OR (was.environment IS NOT NULL AND now.environment IS DISTINCT FROM was.environment),
            was.project_id, was.session_id, was.start_at, was.last_start_at, was.end_at, was.level,
            was.input_tokens, was.output_tokens, was.total_tokens, was.cost_picos, was.user_id, was.environment
        FROM removed AS was
        JOIN added AS now USING (project_id, trace_id)
        WHERE was.session_id IS NOT NULL
    ),
    summed AS (
        SELECT
            project_id, session_id, min(start_at) AS start_at, max(last_start_at) AS last_start_at,
            max(greatest(end_at, last_start_at)) AS end_at,
            sum(sign) AS trace_count, coalesce(sum(sign) FILTER (WHERE level >= 4), 0) AS error_count,
            sum(sign * input_tokens) AS input_tokens, sum(sign * output_tokens) AS output_tokens,
            sum(sign * total_tokens) AS total_tokens, sum(sign * cost_picos) AS cost_picos,
            coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}') AS user_ids,
            coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}') AS environments,
            bool_or(loses) AS loses
        FROM changes
        GROUP BY project_id, session_id
    ),
    changed AS (
        INSERT INTO sessions
        SELECT
            project_id, session_id, start_at, last_start_at, end_at, trace_count, error_count,
            input_tokens, output_tokens, total_tokens, cost_picos, user_ids, environments
        FROM summed
        ON CONFLICT (project_id, session_id) DO UPDATE SET
            start_at = least(sessions.start_at, excluded.start_at),
            last_start_at = greatest(sessions.last_start_at, excluded.last_start_at),
            end_at = greatest(sessions.end_at, excluded.end_at),
            trace_count = sessions.trace_count + excluded.trace_count,
            error_count = sessions.error_count + excluded.error_count,
            input_tokens = sessions.input_tokens + excluded.input_tokens,
            output_tokens = sessions.output_tokens + excluded.output_tokens,
            total_tokens = sessions.total_tokens + excluded.total_tokens,
            cost_picos = sessions.cost_picos + excluded.cost_picos,
            user_ids = CASE
                WHEN sessions.user_ids @> excluded.user_ids THEN sessions.user_ids
                ELSE first_hundred(sessions.user_ids || excluded.user_ids)
            END,
            environments = CASE
                WHEN sessions.environments @> excluded.environments THEN sessions.environments
                ELSE first_hundred(sessions.environments || excluded.environments)
            END
    )
    SELECT array_agg(project_id), array_agg(session_id) INTO projects, ids FROM summed WHERE loses;
    IF ids IS NOT NULL THEN
        PERFORM sum_up_sessions(projects, ids);
        PERFORM set_config('lodestream.summed_up', (
            SELECT jsonb_agg(jsonb_build_array(its.project_id, its.session_id)::text)
            FROM unnest(projects, ids) AS its (project_id, session_id)
        )::text, true);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION traces_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    projects text[];
    ids text[];
BEGIN
    PERFORM pg_advisory_xact_lock(1936028531, TG_RELID::integer);  -- "sess"
    SELECT array_agg(project_id), array_agg(session_id) INTO projects, ids
    FROM (SELECT DISTINCT project_id, session_id FROM removed WHERE session_id IS NOT NULL) AS touched;
    IF ids IS NOT NULL THEN
        PERFORM sum_up_sessions(projects, ids);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION traces_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1936028531, TG_RELID::integer);  -- "sess"
    DELETE FROM sessions;
    RETURN NULL;
END $$;

LOCK TABLE traces IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO sessions
SELECT
    project_id, session_id, min(start_at), max(last_start_at), max(greatest(end_at, last_start_at)),
    count(*), count(*) FILTER (WHERE level >= 4),
    sum(input_tokens), sum(output_tokens), sum(total_tokens), sum(cost_picos),
    coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}'),
    coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}')
FROM traces
WHERE session_id IS NOT NULL
GROUP BY project_id, session_id;

CREATE TRIGGER traces_inserted AFTER INSERT ON traces REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION traces_inserted();
CREATE TRIGGER traces_updated AFTER UPDATE ON traces REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION traces_updated();
CREATE TRIGGER traces_deleted AFTER DELETE ON traces REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION traces_deleted();
CREATE TRIGGER traces_truncated AFTER TRUNCATE ON traces
FOR EACH STATEMENT EXECUTE FUNCTION traces_truncated();
