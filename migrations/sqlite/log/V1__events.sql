-- The log: one row an event, in commit order. Rows are added and never changed.
CREATE TABLE events (
    position       INTEGER PRIMARY KEY,  -- 1, 2, 3 … in commit order, without a gap
    aggregate_type TEXT    NOT NULL,
    aggregate_id   BLOB    NOT NULL,     -- 16 bytes
    sequence       INTEGER NOT NULL,     -- 1, 2, 3 … within the stream
    event_type     TEXT    NOT NULL,
    event_version  INTEGER NOT NULL,
    payload        BLOB    NOT NULL,     -- sealed facts and, where there is one, the sealed personal part
    metadata       TEXT    NOT NULL,     -- JSON of opaque ids, kept as written
    event_id       BLOB    NOT NULL,
    command_id     BLOB    NOT NULL,
    command_index  INTEGER NOT NULL,     -- 0, 1, 2 … over all events of one command
    recorded_at    INTEGER NOT NULL,     -- milliseconds since 1970, never decreasing
    UNIQUE (aggregate_type, aggregate_id, sequence),
    UNIQUE (command_id, command_index)
) STRICT;

-- Also keeps INSERT OR REPLACE from taking a standing event's place by its position.
CREATE TRIGGER events_are_gapless BEFORE INSERT ON events
WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM events)
BEGIN SELECT RAISE(ABORT, 'positions are gapless'); END;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- How far each follower of the log came, with the event it saw there.
CREATE TABLE checkpoints (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    event_id BLOB    NOT NULL
) STRICT;

-- The histories that this log has told; the newest row names the present one. A row is added whenever somebody accepts that the
-- log was set back.
CREATE TABLE incarnations (
    id       BLOB    NOT NULL UNIQUE,    -- 16 random bytes
    position INTEGER NOT NULL,           -- it begins behind this event, or behind 0
    event_id BLOB    NOT NULL,
    drawn_at INTEGER NOT NULL            -- milliseconds since 1970
) STRICT;

INSERT INTO incarnations (id, position, event_id, drawn_at)
VALUES (randomblob(16), 0, zeroblob(16), CAST(unixepoch('subsec') * 1000 AS INTEGER));

CREATE TRIGGER incarnations_are_never_changed BEFORE UPDATE ON incarnations
BEGIN SELECT RAISE(ABORT, 'incarnations are append-only'); END;

CREATE TRIGGER incarnations_are_never_deleted BEFORE DELETE ON incarnations
BEGIN SELECT RAISE(ABORT, 'incarnations are append-only'); END;

-- Who holds a task's slot, and until when. A holder is one claim: a late one cannot free the slot of its successor.
CREATE TABLE leases (
    agent_id   BLOB    NOT NULL,
    slot       INTEGER NOT NULL,
    task_id    BLOB    NOT NULL UNIQUE,
    holder     BLOB    NOT NULL,         -- drawn anew for each claim
    expires_at INTEGER NOT NULL,         -- milliseconds since 1970
    PRIMARY KEY (agent_id, slot)
) STRICT;

-- Who does what one process at a time does, and until when. Rows stay: a token that was given is never given again.
CREATE TABLE duties (
    duty       TEXT    PRIMARY KEY,
    holder     BLOB,                     -- the last one
    token      INTEGER NOT NULL,         -- of its lease
    expires_at INTEGER NOT NULL          -- milliseconds since 1970; 0 when it was given up
) STRICT;
