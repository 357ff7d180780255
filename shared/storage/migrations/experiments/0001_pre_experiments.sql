-- The experiments read model: datasets with every version they had, runs, and what came of each item. Names and ids compare
-- by code points. Instants are the log's own, and never go back within a dataset or a run.

-- One row a dataset, as it is now. All events of a dataset are in one partition, so the log decides their order.
CREATE TABLE datasets (
    project_id text NOT NULL,
    dataset_id text NOT NULL COLLATE "C",  -- follows from the name
    name       text NOT NULL COLLATE "C",
    version    bigint NOT NULL,            -- the count of its changes
    archived   boolean NOT NULL,
    item_count bigint NOT NULL,            -- that are not archived
    created_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, dataset_id)
);
CREATE INDEX datasets_by_name ON datasets (project_id, name);

-- How a dataset was described, from a version on until another one.
CREATE TABLE dataset_descriptions (
    project_id             text NOT NULL,
    dataset_id             text NOT NULL COLLATE "C",
    version                bigint NOT NULL,  -- that brought it
    until_version          bigint,           -- that replaced it; null: it holds
    archived               boolean NOT NULL,
    description            text NOT NULL,
    metadata               text NOT NULL,    -- JSON object, or empty
    input_schema           text NOT NULL,    -- JSON Schema, or empty
    expected_output_schema text NOT NULL,
    PRIMARY KEY (project_id, dataset_id, version)
);

-- What an item was, from a version of its dataset on until another one.
CREATE TABLE dataset_items (
    project_id      text NOT NULL,
    dataset_id      text NOT NULL COLLATE "C",
    item_id         text NOT NULL COLLATE "C",
    version         bigint NOT NULL,  -- of the dataset, that made it so
    until_version   bigint,           -- that made it otherwise; null: it holds
    first_version   bigint NOT NULL,  -- that added the item: the order of items
    archived        boolean NOT NULL,
    input           text NOT NULL,    -- JSON
    expected_output text NOT NULL,    -- JSON, or empty: there is none
    metadata        text NOT NULL,    -- JSON object, or empty
    source_trace_id bytea,
    source_span_id  bytea,
    splits          text[] NOT NULL,  -- sorted
    author          text NOT NULL,
    created_at      timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (project_id, dataset_id, item_id, version)
);
CREATE INDEX dataset_items_in_order ON dataset_items (project_id, dataset_id, first_version, version);
CREATE INDEX dataset_items_that_hold ON dataset_items (project_id, dataset_id, first_version)
WHERE until_version IS NULL AND NOT archived;

-- Every change of a dataset: one row a version.
CREATE TABLE dataset_changes (
    project_id text NOT NULL,
    dataset_id text NOT NULL COLLATE "C",
    version    bigint NOT NULL,
    kind       smallint NOT NULL,            -- lodestream_proto.v1.DatasetChangeKind
    item_id    text NOT NULL COLLATE "C",    -- empty: of the dataset itself
    author     text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, dataset_id, version)
);
CREATE INDEX dataset_changes_of_item ON dataset_changes (project_id, dataset_id, item_id, version);
-- The version of a dataset at an instant.
CREATE INDEX dataset_changes_by_time ON dataset_changes (project_id, dataset_id, changed_at, version);

-- Events that have been decided, so that one told twice changes nothing the second time.
CREATE TABLE experiment_events (
    project_id text NOT NULL,
    subject_id text NOT NULL COLLATE "C",  -- a dataset's id, or a run's
    event_id   uuid NOT NULL,
    PRIMARY KEY (project_id, subject_id, event_id)
);

-- One row a run: as it was asked for, and how far it is.
CREATE TABLE experiment_runs (
    project_id        text NOT NULL,
    run_id            text NOT NULL COLLATE "C",
    name              text NOT NULL COLLATE "C",
    dataset_id        text NOT NULL COLLATE "C",  -- empty: data that are in no dataset
    dataset_version   bigint NOT NULL,
    state             smallint NOT NULL,          -- lodestream_proto.v1.ExperimentState
    reason            text NOT NULL,              -- why it ended, unless completed
    requested_at      timestamptz NOT NULL,
    ended_at          timestamptz,
    request           bytea NOT NULL,             -- lodestream_proto.v1.ExperimentRequested
    run_evaluations   bytea[] NOT NULL,           -- lodestream_proto.v1.ItemEvaluation
    items_finished    bigint NOT NULL,
    items_failed      bigint NOT NULL,
    input_tokens      bigint NOT NULL,
    output_tokens     bigint NOT NULL,
    cost_picodollars  numeric(30) NOT NULL,
    PRIMARY KEY (project_id, run_id)
);
CREATE INDEX experiment_runs_by_time ON experiment_runs (project_id, requested_at, run_id);
CREATE INDEX experiment_runs_of_dataset ON experiment_runs (project_id, dataset_id, requested_at, run_id);

-- One row for each item and repetition that came to its end: the first that was told.
CREATE TABLE experiment_items (
    project_id  text NOT NULL,
    run_id      text NOT NULL COLLATE "C",
    item_id     text NOT NULL COLLATE "C",
    repetition  integer NOT NULL,
    failed      boolean NOT NULL,
    latency_us  bigint NOT NULL,
    cost_picodollars bigint,               -- null: no price is known
    finished_at timestamptz NOT NULL,      -- by the log's time
    trace_id    bytea,
    result      bytea NOT NULL,            -- lodestream_proto.v1.ExperimentItemFinished
    PRIMARY KEY (project_id, run_id, item_id, repetition)
);
CREATE INDEX experiment_items_by_time ON experiment_items (project_id, run_id, finished_at, item_id, repetition);

-- What evaluators said of those items.
CREATE TABLE experiment_evaluations (
    project_id text NOT NULL,
    run_id     text NOT NULL COLLATE "C",
    name       text NOT NULL COLLATE "C",
    item_id    text NOT NULL COLLATE "C",
    repetition integer NOT NULL,
    type       smallint NOT NULL,   -- lodestream_proto.v1.ScoreType; 0: the evaluator failed
    number     double precision,    -- of a number; true is 1, false 0
    label      text,                -- of a category; "true" or "false"; a text; the evaluator's error
    PRIMARY KEY (project_id, run_id, name, item_id, repetition)
);
