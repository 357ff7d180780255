-- What a project may use of the providers, and spend: the operator's to say. Without rows every project may use every
-- provider that is not for granted projects only, without a cap.
ALTER TABLE providers
    ADD COLUMN granted_only boolean NOT NULL DEFAULT false,
    ADD COLUMN models text[] NOT NULL DEFAULT '{}';  -- empty: any

CREATE TABLE provider_grants (
    project_id text NOT NULL REFERENCES projects,
    provider   text NOT NULL,
    models     text[] NOT NULL DEFAULT '{}',  -- empty: those of the provider
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, provider)
);

-- What a project may spend on model calls in a day or a month of UTC.
CREATE TABLE spending_caps (
    project_id       text NOT NULL REFERENCES projects,
    period           text NOT NULL CHECK (period IN ('day', 'month')),
    max_picodollars  numeric(30) NOT NULL,
    max_tokens       numeric(30) NOT NULL,  -- of models without a price
    PRIMARY KEY (project_id, period)
);

CREATE TABLE spending (
    project_id   text NOT NULL,
    period       text NOT NULL,
    begins_on    date NOT NULL,
    picodollars  numeric(30) NOT NULL DEFAULT 0,
    tokens       numeric(30) NOT NULL DEFAULT 0,  -- of models without a price
    PRIMARY KEY (project_id, period, begins_on)
);

-- Calls under way of projects that have a cap, with what they cost at most, about.
CREATE TABLE spending_reservations (
    project_id     text NOT NULL,
    reservation_id uuid NOT NULL,
    expires_at     timestamptz NOT NULL,  -- then the worker has died, and all of it counts as spent
    picodollars    numeric(30) NOT NULL,
    tokens         numeric(30) NOT NULL,
    PRIMARY KEY (project_id, reservation_id)
);
