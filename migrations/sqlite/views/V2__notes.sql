-- When somebody last said that they read any table. Who runs says so every minute, so nobody ran between two notes that are far apart.
CREATE TABLE notes (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    noted_at INTEGER NOT NULL     -- milliseconds since 1970
) STRICT;
-- Until the first note after this, nothing is known of how long nobody read.
INSERT INTO notes (one, noted_at) VALUES (1, 0);
