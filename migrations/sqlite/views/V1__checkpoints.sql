-- How far each view came, and which event stood there. The views' own tables are made by the program, one per projection and version.
CREATE TABLE checkpoints (
    view     TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    event_id BLOB    NOT NULL
) STRICT;
