-- The last transaction that erased people. Nodes are told of the same erasure one after the other; all but the first find nothing
-- to delete, and have to wait for the first one's deletion only, not for whatever began since.
CREATE TABLE last_erasure (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    gone xid8 NOT NULL
);
INSERT INTO last_erasure (gone) VALUES (pg_current_xact_id());

-- What the last rewriting of a table left out: everything deleted before the transaction `passed`. pg_class.relfrozenxid does not
-- tell, since VACUUM moves it too and rewrites nothing. `file` ties this to the file that was written: it does not hold for the
-- table that a dump is restored to.
CREATE TABLE scrubbed (
    of_table text PRIMARY KEY,
    file oid NOT NULL,
    passed xid8 NOT NULL
);

-- Deletes these people with their credentials and sessions. Answers a transaction that is not older than their deletion, also
-- when they were deleted before.
CREATE FUNCTION forget(people uuid[]) RETURNS xid8
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
DECLARE
    answered xid8;
BEGIN
    -- One at a time, so that each statement below sees all of the one before.
    PERFORM FROM last_erasure FOR UPDATE;
    DELETE FROM subjects WHERE user_id = ANY (people);
    IF FOUND THEN
        -- One that began later may have been before us. One that has not begun yet was written by another server.
        UPDATE last_erasure SET gone = CASE
            WHEN gone < pg_snapshot_xmax(pg_current_snapshot()) THEN greatest(gone, pg_current_xact_id())
            ELSE pg_current_xact_id()
        END;
    END IF;
    SELECT CASE WHEN gone < pg_snapshot_xmax(pg_current_snapshot()) THEN gone ELSE pg_current_xact_id() END
        INTO STRICT answered FROM last_erasure;
    RETURN answered;
END $$;

CREATE FUNCTION is_scrubbed(of_table text, gone xid8) RETURNS boolean
LANGUAGE sql
SET search_path FROM CURRENT
AS $$
    SELECT EXISTS (
        SELECT FROM scrubbed s
        WHERE s.of_table = $1 AND s.passed > $2 AND s.passed <= pg_snapshot_xmax(pg_current_snapshot())
          AND s.file = pg_relation_filenode(format('%I.%I', current_schema(), $1)::regclass)
    )
$$;

-- As before, but one session rewrites at a time, and nobody rewrites what another has rewritten already.
CREATE OR REPLACE FUNCTION scrub(of_table text, gone xid8) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
-- While it waits for a long reader, such as a dump, others would wait behind it.
SET lock_timeout = '200ms'
AS $$
DECLARE
    own bigint;
BEGIN
    IF of_table NOT IN ('instance_keys', 'subjects', 'credentials', 'sessions') THEN
        RAISE EXCEPTION '% is not a table to scrub', of_table;
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' scrub', 20261122)) THEN
        RETURN is_scrubbed(of_table, gone);
    END IF;
    IF is_scrubbed(of_table, gone) THEN
        RETURN true;
    END IF;
    -- Drawn before the first age(), which is counted from it then.
    own := pg_current_xact_id()::text::bigint;
    EXECUTE format('CLUSTER %I.%I USING %I', current_schema(), of_table, of_table || '_pkey');
    -- The rewriting sets relfrozenxid to the oldest transaction that might see anything, and leaves out what was deleted
    -- before that one. The age of a transaction is how many began since.
    INSERT INTO scrubbed AS known (of_table, file, passed)
    SELECT relname, relfilenode, (own - age(relfrozenxid))::text::xid8
    FROM pg_class c WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace
    ON CONFLICT ON CONSTRAINT scrubbed_pkey DO UPDATE SET file = excluded.file, passed = excluded.passed;
    RETURN is_scrubbed(of_table, gone);
END $$;
