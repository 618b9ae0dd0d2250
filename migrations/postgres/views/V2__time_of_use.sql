-- A table that becomes the one that readers read counts as read from then on: whoever built it for a day has not said so yet.
CREATE OR REPLACE FUNCTION make_live(of_name text, of_version bigint, of_build bigint, with_token bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    verdict text := may_write(of_name, of_version, of_build, with_token);
BEGIN
    IF verdict = 'yes' THEN
        UPDATE tables t SET
            state = CASE WHEN t.build = of_build THEN 'live' ELSE 'retired' END,
            read_at = CASE WHEN t.build = of_build THEN clock_timestamp() ELSE t.read_at END
        WHERE t.name = of_name AND t.version = of_version AND (t.state = 'live' OR t.build = of_build);
    END IF;
    RETURN verdict;
END $$;
