-- What the evaluator's workers have to do. Operational state, no read model: lost, it is folded again from the log, and
-- what the log has a result of is not run again. Instants of leases and pauses are this server's own.

-- One row a run whose task a worker runs, for ever: a run asked for twice is run once.
CREATE TABLE runs (
    project_id        text NOT NULL,
    run_id            text NOT NULL COLLATE "C",
    request           bytea NOT NULL,       -- lodestream_proto.v1.ExperimentRequested
    state             smallint NOT NULL,    -- lodestream_proto.v1.ExperimentState, as the log has it
    requested_at      timestamptz NOT NULL, -- by the log
    partition         integer NOT NULL,     -- of the log, where all of the run's events are
    asked_at          bigint NOT NULL,      -- the offset there of its request: what was told before it tells nothing
    provider          text NOT NULL,
    max_concurrency   integer NOT NULL,
    ends_by           timestamptz,          -- of its budget
    max_picodollars   numeric(30),          -- of its budget
    spent_picodollars numeric(30) NOT NULL DEFAULT 0,
    planned           boolean NOT NULL DEFAULT false,     -- all of its jobs are there
    look_at           timestamptz NOT NULL DEFAULT now(), -- when it is to be planned, or may have come to its end
    served_at         timestamptz NOT NULL DEFAULT now(), -- when jobs of it were last claimed
    outcome           smallint NOT NULL DEFAULT 0,        -- lodestream_proto.v1.ExperimentOutcome; set: nothing begins any more
    reason            text NOT NULL DEFAULT '',
    told              bytea[],              -- the lodestream_proto.v1.Events that end it, once they are decided
    swept             boolean NOT NULL DEFAULT false,     -- it has ended, and its jobs are gone
    PRIMARY KEY (project_id, run_id)
);
CREATE INDEX runs_under_way ON runs (project_id, run_id) WHERE state IN (1, 2);
CREATE INDEX runs_to_look_at ON runs (look_at) WHERE state IN (1, 2);
CREATE INDEX runs_to_sweep ON runs (project_id, run_id) WHERE state > 2 AND NOT swept;

-- Pauses and resumptions that have been folded: one told twice changes nothing the second time.
CREATE TABLE run_events (
    project_id text NOT NULL,
    run_id     text NOT NULL COLLATE "C",
    event_id   text NOT NULL COLLATE "C",
    PRIMARY KEY (project_id, run_id, event_id)
);

-- One row for each item and repetition of a run that has not ended.
CREATE TABLE jobs (
    project_id  text NOT NULL,
    run_id      text NOT NULL COLLATE "C",
    item_id     text NOT NULL COLLATE "C",
    repetition  integer NOT NULL,
    ordinal     bigint NOT NULL DEFAULT 0,      -- the order in which they begin
    state       smallint NOT NULL,              -- 0 waits, 1 is worked on, 2 is decided and not told, 3 is in the log
    attempts    integer NOT NULL DEFAULT 0,     -- begun
    next_at     timestamptz NOT NULL DEFAULT now(),
    owner       text,
    lease_until timestamptz,
    fence       bigint NOT NULL DEFAULT 0,      -- raised by each claim: an earlier owner is refused
    told        bytea[],                        -- the lodestream_proto.v1.Events that tell the result, while it is decided
    PRIMARY KEY (project_id, run_id, item_id, repetition)
);
CREATE INDEX jobs_to_do ON jobs (project_id, run_id, state, next_at, ordinal) WHERE state < 3;
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state IN (1, 2);

-- Who works at present; one that is silent is gone.
CREATE TABLE workers (
    owner   text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
