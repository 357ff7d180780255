-- The prompts read model: what the log has decided about each prompt, and how it came to be so. Names and labels compare
-- by code points. Instants are the log's own, and never go back within a prompt.

-- One row a prompt, as it is now.
CREATE TABLE prompts (
    project_id     text NOT NULL,
    name           text NOT NULL COLLATE "C",
    is_chat        boolean NOT NULL,
    latest_version integer NOT NULL,  -- also the count of its versions
    revision       bigint NOT NULL,   -- the count of its changes
    archived       boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (project_id, name)
);

CREATE TABLE prompt_versions (
    project_id text NOT NULL,
    name       text NOT NULL COLLATE "C",
    version    integer NOT NULL,
    revision   bigint NOT NULL,  -- with which it came
    tags       text[] NOT NULL,
    created_at timestamptz NOT NULL,
    body       bytea NOT NULL,   -- lodestream_proto.v1.PromptVersion, whole but for what changes: labels and revision
    PRIMARY KEY (project_id, name, version)
);

-- Who holds a label now: one version, or none (0).
CREATE TABLE prompt_labels (
    project_id       text NOT NULL,
    name             text NOT NULL COLLATE "C",
    label            text NOT NULL COLLATE "C",
    version          integer NOT NULL,
    previous_version integer NOT NULL,  -- before its last move
    PRIMARY KEY (project_id, name, label)
);
CREATE INDEX prompt_labels_by_label ON prompt_labels (project_id, label, name) WHERE version > 0;

-- Every change of a label.
CREATE TABLE prompt_label_moves (
    project_id   text NOT NULL,
    name         text NOT NULL COLLATE "C",
    revision     bigint NOT NULL,
    label        text NOT NULL COLLATE "C",
    from_version integer NOT NULL,
    to_version   integer NOT NULL,
    author       text NOT NULL,
    moved_at     timestamptz NOT NULL,
    PRIMARY KEY (project_id, name, revision, label)
);

-- The verdict on every command. A command belongs to its prompt: only the order within a prompt is the log's.
CREATE TABLE prompt_commands (
    project_id  text NOT NULL,
    command_id  uuid NOT NULL,
    prompt_name text NOT NULL COLLATE "C",
    kind        text NOT NULL,       -- the payload's name in lodestream_proto.v1.Event
    version     integer NOT NULL,    -- created, or that labels point to now
    revision    bigint NOT NULL,     -- of the prompt after it
    refusal     smallint NOT NULL,   -- lodestream_proto.v1.PromptRefusal; 0: it was done
    reason      text NOT NULL,
    decided_at  timestamptz NOT NULL,
    PRIMARY KEY (project_id, command_id, prompt_name)
);
-- What a prompt was like at an instant.
CREATE INDEX prompt_commands_done ON prompt_commands (project_id, prompt_name, revision, decided_at) WHERE refusal = 0;

-- Prompts that Redis has not been told of. No part of the read model's content: what is told is read when it is told.
CREATE TABLE prompt_outbox (
    project_id text NOT NULL,
    name       text NOT NULL COLLATE "C",
    revision   bigint NOT NULL,
    PRIMARY KEY (project_id, name)
);
