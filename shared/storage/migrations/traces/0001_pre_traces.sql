-- The traces read model: hot span rows, the records they came in, and one summary row a trace.
-- Times are microseconds in UTC, costs 10^-12 US dollars ("picodollars": sums of integers do not depend on their order).

-- One row a span. Everything here is a pure function of the set of its parts (the records that told of it).
CREATE TABLE spans (
    project_id         text NOT NULL,
    start_day          date NOT NULL,  -- UTC day of start_at; part of a span's identity
    trace_id           bytea NOT NULL,
    span_id            bytea NOT NULL,
    parent_span_id     bytea,
    is_root            boolean NOT NULL,
    name               text NOT NULL,
    type               smallint NOT NULL,  -- lodestream_proto.v1.SpanType
    level              smallint NOT NULL,  -- lodestream_proto.v1.Level
    status_message     text,
    start_at           timestamptz NOT NULL,
    end_at             timestamptz,  -- null: still running
    first_token_us     bigint,       -- time to first token
    model              text,
    provider           text,
    usage              jsonb,        -- {"input": 12, "output": 5, …}: tokens by kind, each counted once
    cost               jsonb,        -- the same keys, in picodollars
    input_tokens       bigint NOT NULL,
    output_tokens      bigint NOT NULL,
    total_tokens       bigint NOT NULL,
    cost_picos         bigint NOT NULL,
    prompt_name        text,
    prompt_version     integer,
    trace_name         text,
    user_id            text,
    session_id         text,
    tags               text[],
    environment        text,
    release            text,
    version            text,
    sdk                text,
    input_preview      text,
    output_preview     text,
    sanitized          smallint NOT NULL,
    received_at        timestamptz NOT NULL,  -- of the first part
    block_partition    integer NOT NULL,      -- where the first part is: span_blocks, and which span of the block
    block_offset       bigint NOT NULL,
    block_index        integer NOT NULL,
    -- Null: told in one part. Else all parts, four numbers each, ascending: received_at (µs since 1970), partition, offset, index.
    parts              bigint[],
    PRIMARY KEY (project_id, trace_id, span_id, start_day)
) PARTITION BY RANGE (start_day);

-- One row a record of the log: its bytes as they are there.
CREATE TABLE span_blocks (
    project_id   text NOT NULL,
    received_day date NOT NULL,  -- UTC day of received_at
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    received_at  timestamptz NOT NULL,
    sdk_name     text NOT NULL,
    sdk_version  text NOT NULL,
    compression  smallint NOT NULL,  -- lodestream_proto.v1.Compression
    span_count   integer NOT NULL,
    otlp_request bytea NOT NULL,
    PRIMARY KEY (project_id, received_day, partition, "offset")
) PARTITION BY RANGE (received_day);
-- Already compressed: TOAST must not try again.
ALTER TABLE span_blocks ALTER COLUMN otlp_request SET STORAGE EXTERNAL;

-- One row a trace. Several writers may hold spans of one trace, so every column is combined by an operation that does not
-- depend on order: least, greatest, sum over new spans, union. The root's columns go together with root_start_at, root_span_id.
CREATE TABLE traces (
    project_id          text NOT NULL,
    trace_id            bytea NOT NULL,
    start_at            timestamptz NOT NULL,
    end_at              timestamptz,
    last_start_at       timestamptz NOT NULL,  -- with start_at: the days in which its spans lie
    received_at         timestamptz NOT NULL,
    last_received_at    timestamptz NOT NULL,
    -- The root: of several, the first to start, then the smallest id. Null: not seen yet.
    root_start_at       timestamptz,
    root_span_id        bytea,
    root_name           text,
    root_trace_name     text,
    root_user_id        text,
    root_session_id     text,
    root_environment    text,
    root_release        text,
    root_version        text,
    root_status_message text,
    root_input_preview  text,
    root_output_preview text,
    -- What stands in while the root is unknown or silent: the least value among all spans, by code points.
    any_trace_name      text COLLATE "C",
    any_user_id         text COLLATE "C",
    any_session_id      text COLLATE "C",
    any_environment     text COLLATE "C",
    any_release         text COLLATE "C",
    any_version         text COLLATE "C",
    tags                text[] NOT NULL,  -- union, sorted by code points
    level               smallint NOT NULL,  -- the worst
    span_count          bigint NOT NULL,
    type_counts         bigint[] NOT NULL,   -- by SpanType 1…10
    level_counts        bigint[] NOT NULL,   -- by Level 1…4
    input_tokens        bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    total_tokens        bigint NOT NULL,
    cost_picos          bigint NOT NULL,
    -- When something ran, as unions of intervals in µs since 1970: idempotent, overlap-aware.
    retrieval_busy      int8multirange NOT NULL,
    generation_busy     int8multirange NOT NULL,
    tool_busy           int8multirange NOT NULL,
    child_busy          int8multirange NOT NULL,  -- any span but the root
    name        text GENERATED ALWAYS AS (coalesce(root_trace_name, any_trace_name, root_name)) STORED,
    user_id     text GENERATED ALWAYS AS (coalesce(root_user_id, any_user_id)) STORED,
    session_id  text GENERATED ALWAYS AS (coalesce(root_session_id, any_session_id)) STORED,
    environment text GENERATED ALWAYS AS (coalesce(root_environment, any_environment)) STORED,
    release     text GENERATED ALWAYS AS (coalesce(root_release, any_release)) STORED,
    version     text GENERATED ALWAYS AS (coalesce(root_version, any_version)) STORED,
    latency_us  bigint GENERATED ALWAYS AS (CAST(extract(epoch FROM end_at - start_at) * 1000000 AS bigint)) STORED,
    PRIMARY KEY (project_id, trace_id)
);

CREATE INDEX traces_by_start ON traces (project_id, start_at DESC, trace_id);
CREATE INDEX traces_by_arrival ON traces (project_id, last_received_at, trace_id);
CREATE INDEX traces_by_session ON traces (project_id, session_id, start_at) WHERE session_id IS NOT NULL;
CREATE INDEX traces_by_user ON traces (project_id, user_id, start_at) WHERE user_id IS NOT NULL;

CREATE FUNCTION add_counts(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT array_agg(x + y ORDER BY i) FROM unnest(a, b) WITH ORDINALITY AS pairs (x, y, i));

CREATE FUNCTION union_sorted(a text[], b text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT coalesce(array_agg(DISTINCT tag COLLATE "C" ORDER BY tag COLLATE "C"), '{}') FROM unnest(a || b) AS tag);
