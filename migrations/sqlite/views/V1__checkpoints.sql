-- How far each view came. The views' own tables are made by the program, one per projection and version.
CREATE TABLE checkpoints (
    view     TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT;
