-- The log: one row an event, in commit order. Rows are added and never changed.
-- Runs with the instance's schema as search_path; the functions keep that path.
CREATE TABLE events (
    position       bigint      PRIMARY KEY,  -- 1, 2, 3 … in commit order, without a gap
    aggregate_type text        NOT NULL,
    aggregate_id   uuid        NOT NULL,
    sequence       bigint      NOT NULL,     -- 1, 2, 3 … within the stream
    event_type     text        NOT NULL,
    event_version  integer     NOT NULL,
    payload        bytea       NOT NULL,     -- sealed facts and, where there is one, the sealed personal part
    metadata       json        NOT NULL,     -- opaque ids; json keeps the text as written, jsonb would not
    event_id       uuid        NOT NULL,
    command_id     uuid        NOT NULL,
    command_index  integer     NOT NULL,     -- 0, 1, 2 … over all events of one command
    recorded_at    timestamptz NOT NULL,     -- whole milliseconds, set under the lock, never decreasing
    UNIQUE (aggregate_type, aggregate_id, sequence),
    UNIQUE (command_id, command_index)
);
-- What is sealed does not compress: trying would only cost time.
ALTER TABLE events ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- ALWAYS: also for the owner, for superusers, and for sessions that replicate.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_are_never_changed;

-- How far each follower of the log came, with the event it saw there.
CREATE TABLE checkpoints (
    name     text   PRIMARY KEY,
    position bigint NOT NULL,
    event_id uuid   NOT NULL
);

-- The histories that this log has had: a first one when it was made, another each time that somebody accepted a log that was set
-- back.
CREATE TABLE incarnations (
    id       uuid        PRIMARY KEY,
    position bigint      NOT NULL,
    event_id uuid,
    drawn_at timestamptz NOT NULL
);

-- Who holds a task's slot, and until when. A holder is one claim: a late one cannot free the slot of its successor.
CREATE TABLE leases (
    agent_id   uuid        NOT NULL,
    slot       integer     NOT NULL,
    task_id    uuid        NOT NULL UNIQUE,
    holder     uuid        NOT NULL,         -- drawn anew for each claim
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (agent_id, slot)
);
