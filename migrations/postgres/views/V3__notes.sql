-- When somebody last said that they read any table. Who runs says so every minute, so nobody ran between two notes that are far apart.
CREATE TABLE notes (
    one      boolean     PRIMARY KEY DEFAULT true CHECK (one),
    noted_at timestamptz NOT NULL
);
-- Until the first note after this, nothing is known of how long nobody read.
INSERT INTO notes (noted_at) VALUES ('epoch');

-- Says of tables that somebody reads them now. Where the note before is longer ago than absence_min_ms, what passed since counts for no
-- table: whose readers were stopped together with everybody else's, and start again later, finds it as it was.
CREATE FUNCTION read_by_now(of_names text[], of_versions bigint[], of_builds bigint[], absence_min_ms bigint) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    last   timestamptz;
    moment timestamptz;
BEGIN
    -- Of several who come back, each waits here for the one before, and finds its note.
    SELECT noted_at INTO last FROM notes FOR UPDATE;
    moment := clock_timestamp();
    IF moment - last > absence_min_ms * interval '1 millisecond' THEN
        UPDATE tables SET read_at = least(read_at + (moment - last), moment);
    END IF;
    UPDATE tables t SET read_at = moment
    FROM unnest(of_names, of_versions, of_builds) AS read (name, version, build)
    WHERE t.name = read.name AND t.version = read.version AND t.build = read.build;
    UPDATE notes SET noted_at = moment;
END $$;
