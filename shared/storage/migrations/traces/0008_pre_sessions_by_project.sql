-- Sessions are changed under a lock for each project instead of one for all, and what a session loses (a trace that moved, a
-- user that a root corrected, a moment at either end) is looked up instead of summing all its traces anew.
--
-- The triggers of a statement write what it changes into a temporary table of the connection; the last of them locks the
-- projects, in one order, and applies it. (An INSERT … ON CONFLICT fires those of updates, then those of inserts.)

CREATE INDEX traces_by_session_activity ON traces (project_id, session_id, last_start_at) WHERE session_id IS NOT NULL;
CREATE INDEX traces_by_session_end ON traces (project_id, session_id, (greatest(end_at, last_start_at)))
WHERE session_id IS NOT NULL;
CREATE INDEX traces_by_session_user ON traces (project_id, session_id, user_id COLLATE "C")
WHERE session_id IS NOT NULL AND user_id IS NOT NULL;
CREATE INDEX traces_by_session_environment ON traces (project_id, session_id, environment COLLATE "C")
WHERE session_id IS NOT NULL AND environment IS NOT NULL;

-- The first hundred users of a session by code points, one step in the index for each.
CREATE FUNCTION users_of_session(of_project text, of_session text) RETURNS text[]
LANGUAGE sql STABLE
RETURN (
    WITH RECURSIVE steps AS (
        (
            SELECT user_id COLLATE "C" AS found, 1 AS step FROM traces
            WHERE project_id = of_project AND session_id = of_session AND user_id IS NOT NULL
            ORDER BY user_id COLLATE "C" LIMIT 1
        )
        UNION ALL
        SELECT next.found, steps.step + 1
        FROM steps
        CROSS JOIN LATERAL (
            SELECT user_id COLLATE "C" AS found FROM traces
            WHERE project_id = of_project AND session_id = of_session AND user_id COLLATE "C" > steps.found
            ORDER BY user_id COLLATE "C" LIMIT 1
        ) AS next
        WHERE steps.step < 100
    )
    SELECT coalesce(array_agg(found ORDER BY step), '{}') FROM steps
);

CREATE FUNCTION environments_of_session(of_project text, of_session text) RETURNS text[]
LANGUAGE sql STABLE
RETURN (
    WITH RECURSIVE steps AS (
        (
            SELECT environment COLLATE "C" AS found, 1 AS step FROM traces
            WHERE project_id = of_project AND session_id = of_session AND environment IS NOT NULL
            ORDER BY environment COLLATE "C" LIMIT 1
        )
        UNION ALL
        SELECT next.found, steps.step + 1
        FROM steps
        CROSS JOIN LATERAL (
            SELECT environment COLLATE "C" AS found FROM traces
            WHERE project_id = of_project AND session_id = of_session AND environment COLLATE "C" > steps.found
            ORDER BY environment COLLATE "C" LIMIT 1
        ) AS next
        WHERE steps.step < 100
    )
    SELECT coalesce(array_agg(found ORDER BY step), '{}') FROM steps
);

CREATE FUNCTION stage_session_changes() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('pg_temp.session_changes') IS NULL THEN
        CREATE TEMPORARY TABLE session_changes (
            sign smallint, loses boolean, project_id text, session_id text,
            start_at timestamptz, last_start_at timestamptz, end_at timestamptz, level smallint,
            input_tokens bigint, output_tokens bigint, total_tokens bigint, cost_picos bigint,
            user_id text, environment text
        ) ON COMMIT DELETE ROWS;
    END IF;
END $$;

-- Bring the sessions to what the staged changes say. `of_table`: the traces that they belong to, of which a rebuild has others.
CREATE FUNCTION apply_session_changes(of_table oid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_temp.session_changes) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(key)
    FROM (
        SELECT DISTINCT hashtextextended(project_id, of_table::bigint) AS key FROM pg_temp.session_changes ORDER BY 1
    ) AS projects;
    INSERT INTO sessions
    SELECT
        project_id, session_id, min(start_at), max(last_start_at), max(greatest(end_at, last_start_at)),
        sum(sign), coalesce(sum(sign) FILTER (WHERE level >= 4), 0),
        sum(sign * input_tokens), sum(sign * output_tokens), sum(sign * total_tokens), sum(sign * cost_picos),
        coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}'),
        coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}')
    FROM pg_temp.session_changes
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
    DELETE FROM sessions USING pg_temp.session_changes AS changed
    WHERE changed.loses AND sessions.trace_count = 0
        AND sessions.project_id = changed.project_id AND sessions.session_id = changed.session_id;
    -- What a session lost may be what it showed: what it shows now is looked up.
    UPDATE sessions SET
        start_at = (
            SELECT traces.start_at FROM traces
            WHERE traces.project_id = losers.project_id AND traces.session_id = losers.session_id
            ORDER BY traces.start_at LIMIT 1
        ),
        last_start_at = (
            SELECT traces.last_start_at FROM traces
            WHERE traces.project_id = losers.project_id AND traces.session_id = losers.session_id
            ORDER BY traces.last_start_at DESC LIMIT 1
        ),
        end_at = (
            SELECT greatest(traces.end_at, traces.last_start_at) FROM traces
            WHERE traces.project_id = losers.project_id AND traces.session_id = losers.session_id
            ORDER BY greatest(traces.end_at, traces.last_start_at) DESC LIMIT 1
        ),
        user_ids = users_of_session(losers.project_id, losers.session_id),
        environments = environments_of_session(losers.project_id, losers.session_id)
    FROM (SELECT DISTINCT project_id, session_id FROM pg_temp.session_changes WHERE loses) AS losers
    WHERE sessions.project_id = losers.project_id AND sessions.session_id = losers.session_id;
    DELETE FROM pg_temp.session_changes;
END $$;

CREATE FUNCTION traces_before_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lodestream.inserting', 'on', true);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lodestream.inserting', 'off', true);
    PERFORM stage_session_changes();
    INSERT INTO pg_temp.session_changes
    SELECT
        1, false, project_id, session_id, start_at, last_start_at, end_at, level,
        input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
    FROM added
    WHERE session_id IS NOT NULL;
    PERFORM apply_session_changes(TG_RELID);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stage_session_changes();
    INSERT INTO pg_temp.session_changes
    SELECT
        1, false, project_id, session_id, start_at, last_start_at, end_at, level,
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
    WHERE was.session_id IS NOT NULL;
    IF current_setting('lodestream.inserting', true) IS DISTINCT FROM 'on' THEN
        PERFORM apply_session_changes(TG_RELID);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stage_session_changes();
    INSERT INTO pg_temp.session_changes
    SELECT
        -1, true, project_id, session_id, start_at, last_start_at, end_at, level,
        input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
    FROM removed
    WHERE session_id IS NOT NULL;
    PERFORM apply_session_changes(TG_RELID);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sessions;
    RETURN NULL;
END $$;

DROP FUNCTION sum_up_sessions(text[], text[]);

CREATE TRIGGER traces_before_insert BEFORE INSERT ON traces
FOR EACH STATEMENT EXECUTE FUNCTION traces_before_insert();
