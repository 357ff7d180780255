-- What a statement changes of sessions goes from its triggers to one function as an array. Only an upsert that also updates
-- writes a part of it into a temporary table: Postgres empties those at each commit, and that costs more than the change.

CREATE TYPE session_change AS (
    sign smallint, loses boolean, project_id text, session_id text,
    start_at timestamptz, last_start_at timestamptz, end_at timestamptz, level smallint,
    input_tokens bigint, output_tokens bigint, total_tokens bigint, cost_picos bigint,
    user_id text, environment text
);

-- Bring the sessions to what the changes say. `of_table`: the traces that they belong to, of which a rebuild has others.
CREATE FUNCTION change_sessions(of_table oid, changes session_change[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(changes) = 0 THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(key)
    FROM (
        SELECT DISTINCT hashtextextended(project_id, of_table::bigint) AS key FROM unnest(changes) ORDER BY 1
    ) AS projects;
    INSERT INTO sessions
    SELECT
        project_id, session_id, min(start_at), max(last_start_at), max(greatest(end_at, last_start_at)),
        sum(sign), coalesce(sum(sign) FILTER (WHERE level >= 4), 0),
        sum(sign * input_tokens), sum(sign * output_tokens), sum(sign * total_tokens), sum(sign * cost_picos),
        coalesce((array_agg(DISTINCT user_id COLLATE "C") FILTER (WHERE user_id IS NOT NULL))[:100], '{}'),
        coalesce((array_agg(DISTINCT environment COLLATE "C") FILTER (WHERE environment IS NOT NULL))[:100], '{}')
    FROM unnest(changes)
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
    IF NOT EXISTS (SELECT FROM unnest(changes) WHERE loses) THEN
        RETURN;
    END IF;
    DELETE FROM sessions USING unnest(changes) AS changed
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
    FROM (SELECT DISTINCT project_id, session_id FROM unnest(changes) WHERE loses) AS losers
    WHERE sessions.project_id = losers.project_id AND sessions.session_id = losers.session_id;
END $$;

-- An INSERT … ON CONFLICT fires the triggers of updates, then those of inserts: the last one applies what both change, so
-- that the projects are locked once, in one order.
CREATE OR REPLACE FUNCTION traces_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changes session_change[] := ARRAY(
        SELECT ROW(
            1, false, project_id, session_id, start_at, last_start_at, end_at, level,
            input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
        )::session_change
        FROM added
        WHERE session_id IS NOT NULL
    );
BEGIN
    IF current_setting('lodestream.inserting', true) = 'updated' THEN
        changes := changes || ARRAY(SELECT ROW(staged.*)::session_change FROM pg_temp.session_changes AS staged);
        DELETE FROM pg_temp.session_changes;
    END IF;
    PERFORM set_config('lodestream.inserting', 'off', true);
    PERFORM change_sessions(TG_RELID, changes);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_updated() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changes session_change[] := ARRAY(
        SELECT ROW(
            1, false, project_id, session_id, start_at, last_start_at, end_at, level,
            input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
        )::session_change
        FROM added
        WHERE session_id IS NOT NULL
        UNION ALL
        SELECT ROW(
            -1, now.session_id IS DISTINCT FROM was.session_id
            OR now.start_at > was.start_at
            OR now.last_start_at < was.last_start_at
            OR now.end_at < was.end_at OR (now.end_at IS NULL AND was.end_at IS NOT NULL)
            OR (was.user_id IS NOT NULL AND now.user_id IS DISTINCT FROM was.user_id)
            OR (was.environment IS NOT NULL AND now.environment IS DISTINCT FROM was.environment),
            was.project_id, was.session_id, was.start_at, was.last_start_at, was.end_at, was.level,
            was.input_tokens, was.output_tokens, was.total_tokens, was.cost_picos, was.user_id, was.environment
        )::session_change
        FROM removed AS was
        JOIN added AS now USING (project_id, trace_id)
        WHERE was.session_id IS NOT NULL
    );
BEGIN
    IF cardinality(changes) = 0 THEN
        RETURN NULL;
    END IF;
    IF current_setting('lodestream.inserting', true) IN ('on', 'updated') THEN
        IF to_regclass('pg_temp.session_changes') IS NULL THEN
            -- Not "OF session_change": to drop that type would drop the tables of other connections.
            CREATE TEMPORARY TABLE session_changes ON COMMIT DELETE ROWS AS SELECT * FROM unnest(changes) WITH NO DATA;
        END IF;
        INSERT INTO pg_temp.session_changes SELECT * FROM unnest(changes);
        PERFORM set_config('lodestream.inserting', 'updated', true);
    ELSE
        PERFORM change_sessions(TG_RELID, changes);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION traces_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM change_sessions(TG_RELID, ARRAY(
        SELECT ROW(
            -1, true, project_id, session_id, start_at, last_start_at, end_at, level,
            input_tokens, output_tokens, total_tokens, cost_picos, user_id, environment
        )::session_change
        FROM removed
        WHERE session_id IS NOT NULL
    ));
    RETURN NULL;
END $$;

DROP FUNCTION apply_session_changes(oid);
DROP FUNCTION stage_session_changes();
