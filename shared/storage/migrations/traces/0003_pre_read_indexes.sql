-- One index for each way in which a page of traces is asked for, so that a page costs what it shows, not what there is.
-- Keys run all one way: read backwards they serve the other order, and a page goes on with one row comparison.
CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public;  -- of contrib; an owner may create it

DROP INDEX traces_by_start;
CREATE INDEX traces_by_start ON traces (project_id, start_at, trace_id);

-- Equality, then time: the page is read in order, however many have the value and however long ago.
CREATE INDEX traces_by_name ON traces (project_id, coalesce(name, ''), start_at, trace_id);
CREATE INDEX traces_by_environment ON traces (project_id, environment, start_at) WHERE environment IS NOT NULL;
CREATE INDEX traces_by_release ON traces (project_id, release, start_at) WHERE release IS NOT NULL;

-- Sorts, and the bounds on the same quantities.
CREATE INDEX traces_by_latency ON traces (project_id, coalesce(latency_us, -1), trace_id);
CREATE INDEX traces_by_cost ON traces (project_id, cost_picos, trace_id);
CREATE INDEX traces_by_tokens ON traces (project_id, total_tokens, trace_id);

-- What few traces have. 3: lodestream_proto.v1.LEVEL_WARNING.
CREATE INDEX traces_in_trouble ON traces (project_id, start_at, trace_id) WHERE level >= 3;
CREATE INDEX traces_by_tags ON traces USING gin (project_id, tags) WHERE tags <> '{}';
