-- What every service shares: tenants and their keys, how far each projection has come, and what could not be projected.

CREATE TABLE projects (
    project_id text PRIMARY KEY CHECK (length(project_id) BETWEEN 1 AND 64),
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A key pair of a project. Only a hash of the secret is kept: a secret is shown once, when it is made.
CREATE TABLE api_keys (
    project_id  text NOT NULL REFERENCES projects,
    public_key  text NOT NULL UNIQUE,
    secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),  -- SHA-256
    secret_hint text NOT NULL,  -- the last four characters, to tell keys apart
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    PRIMARY KEY (project_id, public_key)
);

-- The fence: the next offset a projection has to fold. It changes in the transaction that writes the rows.
CREATE TABLE projection_positions (
    projection     text NOT NULL,
    topic          text NOT NULL,
    partition      integer NOT NULL,
    next_offset    bigint NOT NULL,
    last_record_at timestamptz,  -- the log's time stamp of the last folded record
    halted_reason  text,         -- set: the projection stopped here, and why
    PRIMARY KEY (projection, topic, partition)
);

-- What a projection could not fold, whole, with the reason; item is the index inside the record, -1 for the record itself.
CREATE TABLE dead_letters (
    project_id   text NOT NULL,  -- '' when the record was too broken to tell
    projection   text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    item         integer NOT NULL,
    reason       text NOT NULL,
    raw          bytea NOT NULL,
    code_version text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    redriven_at  timestamptz,
    PRIMARY KEY (project_id, projection, topic, partition, "offset", item)
);
