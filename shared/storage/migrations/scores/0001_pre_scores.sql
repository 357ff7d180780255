-- The scores read model: what is said of traces, spans, sessions and runs now, all that was ever said, and the configs.

-- One row an event: a score given, or withdrawn. Of several events with one id the first counts (scored_at, then digest).
CREATE TABLE score_history (
    project_id        text NOT NULL,
    score_id          text NOT NULL,
    event_id          uuid NOT NULL,
    scored_at         timestamptz NOT NULL,  -- as its author says, but not later than five minutes after it came in
    digest            bytea NOT NULL,        -- of what the event says
    retracted         boolean NOT NULL,
    -- The target: exactly one of trace_id (with or without span_id), session_id and run_id.
    trace_id          bytea,
    span_id           bytea,
    session_id        text,
    run_id            text,
    -- Null where the score is retracted.
    name              text,
    type              smallint,          -- lodestream_proto.v1.ScoreType
    number            double precision,  -- true is 1, false 0, a category the value its config gave it when it was recorded
    label             text,              -- the category, "true" or "false", or the text; null for a number
    comment           text,
    config_id         text,
    source            smallint,          -- lodestream_proto.v1.ScoreSource
    author            text,
    evaluator_version text,
    environment       text,
    metadata          text,              -- JSON
    retraction_reason text,
    PRIMARY KEY (project_id, score_id, event_id)
);

-- The last event of each score id, by (scored_at, event_id): what holds now. A row that is retracted is no score any more;
-- it stays, so that an older event that comes later finds what it is older than.
CREATE TABLE scores (LIKE score_history, PRIMARY KEY (project_id, score_id));

CREATE INDEX scores_of_trace ON scores (project_id, trace_id, name, number) WHERE trace_id IS NOT NULL AND NOT retracted;
CREATE INDEX scores_of_session ON scores (project_id, session_id, scored_at, score_id)
WHERE session_id IS NOT NULL AND NOT retracted;
CREATE INDEX scores_of_run ON scores (project_id, run_id, scored_at, score_id) WHERE run_id IS NOT NULL AND NOT retracted;
CREATE INDEX scores_by_time ON scores (project_id, scored_at, score_id) WHERE NOT retracted;
CREATE INDEX scores_by_name ON scores (project_id, name, scored_at, score_id) WHERE NOT retracted;
-- Traces by a score's value, or by its category (type 2: lodestream_proto.v1.SCORE_TYPE_CATEGORICAL).
CREATE INDEX scores_by_number ON scores (project_id, name, number, trace_id)
WHERE trace_id IS NOT NULL AND number IS NOT NULL AND NOT retracted;
CREATE INDEX scores_by_category ON scores (project_id, name, label, trace_id)
WHERE trace_id IS NOT NULL AND type = 2 AND NOT retracted;

-- One row an event, as for scores.
CREATE TABLE score_config_history (
    project_id      text NOT NULL,
    config_id       text NOT NULL,
    event_id        uuid NOT NULL,
    defined_at      timestamptz NOT NULL,
    digest          bytea NOT NULL,
    name            text NOT NULL,
    type            smallint NOT NULL,
    min_value       double precision,
    max_value       double precision,
    labels          text[] NOT NULL,              -- the categories, and the value of each
    label_values    double precision[] NOT NULL,
    description     text NOT NULL,
    archived        boolean NOT NULL,
    PRIMARY KEY (project_id, config_id, event_id)
);

-- The last event of each config id. Configs change rarely, so this is decided when it is read.
CREATE VIEW score_configs AS
SELECT DISTINCT ON (project_id, config_id) *
FROM score_config_history
ORDER BY project_id, config_id, defined_at DESC, event_id DESC;
