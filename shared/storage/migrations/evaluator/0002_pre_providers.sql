-- All providers that a run's items ask, those of its judges included; empty: only `provider`. A worker claims items of
-- runs whose providers it offers.
ALTER TABLE runs ADD COLUMN providers text[] NOT NULL DEFAULT '{}';

-- What may be claimed is looked for project by project, in each the run that was served longest ago first.
CREATE INDEX runs_to_serve ON runs (project_id, served_at) WHERE state = 1 AND outcome = 0;
