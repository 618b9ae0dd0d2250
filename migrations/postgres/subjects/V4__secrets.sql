-- Values of named secrets, each sealed under a key of its own, which the key-encryption key wraps. Which of them is in force, if any,
-- the log tells by its id.
CREATE TABLE secrets (
    id          uuid   PRIMARY KEY,
    name        text   NOT NULL,
    wrapped_key bytea  NOT NULL,
    sealed      bytea  NOT NULL,
    kept_at     bigint NOT NULL
);
CREATE INDEX secrets_by_name ON secrets (name, id);
-- No samples: see V2.
ALTER TABLE secrets ALTER COLUMN wrapped_key SET STATISTICS 0, ALTER COLUMN sealed SET STATISTICS 0;

-- As before, and secrets too.
CREATE OR REPLACE FUNCTION scrub(of_table text, gone xid8) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
-- While it waits for a long reader, such as a dump, others would wait behind it.
SET lock_timeout = '200ms'
AS $$
DECLARE
    own bigint;
BEGIN
    IF of_table NOT IN ('instance_keys', 'subjects', 'credentials', 'sessions', 'secrets') THEN
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
