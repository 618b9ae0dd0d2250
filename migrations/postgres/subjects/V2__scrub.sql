-- No samples of these columns: a table's statistics keep some of its values, and would keep them for the erased too. Every
-- look-up goes by a unique index, which the planner takes without knowing values.
ALTER TABLE instance_keys ALTER COLUMN wrapped SET STATISTICS 0;
ALTER TABLE subjects ALTER COLUMN email_hmac SET STATISTICS 0, ALTER COLUMN wrapped_key SET STATISTICS 0;
ALTER TABLE credentials ALTER COLUMN phc SET STATISTICS 0;
ALTER TABLE sessions ALTER COLUMN token_hash SET STATISTICS 0;

-- Rewrites a table and its indexes into new files, without the bytes of deleted rows, and drops the old ones. VACUUM would
-- free the rows' room and leave their bytes there.
--
-- Answers whether everything that was deleted before the transaction `gone` began, or by it, is out of the new files. It is
-- not when an older transaction, of anyone, may still see it: then wait for the end of that one, and call this again.
--
-- Whoever reads or writes the table waits meanwhile. The runtime's role does not own the tables; it runs this as their owner.
-- Only that role and the owner may use this schema.
CREATE FUNCTION scrub(of_table text, gone xid8) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT
-- While it waits for a long reader, such as a dump, others would wait behind it.
SET lock_timeout = '200ms'
AS $$
BEGIN
    IF of_table NOT IN ('instance_keys', 'subjects', 'credentials', 'sessions') THEN
        RAISE EXCEPTION '% is not a table to scrub', of_table;
    END IF;
    EXECUTE format('CLUSTER %I.%I USING %I', current_schema(), of_table, of_table || '_pkey');
    -- The rewriting sets relfrozenxid to the oldest transaction that might see anything, and leaves out what was deleted
    -- before that one. The age of a transaction is how many began since.
    RETURN (
        SELECT age(relfrozenxid) < age(gone::xid)
        FROM pg_class WHERE relname = of_table AND relnamespace = current_schema()::regnamespace
    );
END $$;
