-- What stopped a partition, and up to where its records may be set aside although they are many.
ALTER TABLE projection_positions
    ADD halted_until    bigint,  -- behind the last record of the batch that halted the partition
    ADD set_aside_until bigint;  -- an operator's word: below it, what can't be folded becomes dead letters and halts nothing

-- Dead letters beyond those that are kept of a project in a partition: counted, and still in the log.
CREATE TABLE dead_letter_overflow (
    project_id       text NOT NULL,
    projection       text NOT NULL,
    topic            text NOT NULL,
    partition        integer NOT NULL,
    letters          bigint NOT NULL,
    first_offset     bigint NOT NULL,
    last_offset      bigint NOT NULL,
    last_reason      text NOT NULL,
    last_recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, projection, topic, partition)
);

-- Records with an event of a kind that this version does not know: a newer gateway wrote them. They wait, whole, for a
-- projection that does.
CREATE TABLE parked_records (
    projection   text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    project_id   text NOT NULL,
    appended_at  timestamptz NOT NULL,
    raw          bytea NOT NULL,
    code_version text NOT NULL,
    parked_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, topic, partition, "offset")
);
