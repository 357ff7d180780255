-- Providers of models that evaluation workers offer: what a run may name. Workers prolong theirs while they live; one
-- whose instant has passed is offered by nobody, and runs of it end.
CREATE TABLE providers (
    provider      text PRIMARY KEY,
    offered_until timestamptz NOT NULL
);
