-- The registry of views. The tables that it names hold the documents, and are made by the program.
CREATE TABLE tables (
    name           TEXT    NOT NULL,     -- of the projection, as is the version
    version        INTEGER NOT NULL,
    build          INTEGER NOT NULL,     -- 1, 2, 3 … within name and version
    fields         TEXT    NOT NULL,     -- JSON: name and kind of each
    indexes        TEXT    NOT NULL,     -- JSON: names of fields of each
    state          TEXT    NOT NULL,     -- building, live, retired or cancelled
    position       INTEGER NOT NULL,     -- how far the table came, and which event stood there
    event_id       BLOB    NOT NULL,
    token          INTEGER NOT NULL,     -- of whoever writes to it
    stopped_at     INTEGER,              -- the position of the event that could not be taken, and why
    stopped_reason TEXT,
    begun_at       INTEGER NOT NULL,     -- milliseconds since 1970
    target         INTEGER NOT NULL,     -- where the log ended when it was begun
    read_at        INTEGER NOT NULL,     -- when somebody last said that they read it: milliseconds since 1970
    PRIMARY KEY (name, version, build)
) STRICT;

-- The last build of each, so that no number is used again once its table was dropped.
CREATE TABLE builds (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
