-- The registry of views. The tables that it names hold the documents, and are made by the program, which owns them.
-- In a schema of its own: all of it can be built again from the log, so it need not be in a backup.
CREATE TABLE tables (
    name           text        NOT NULL,     -- of the projection, as is the version
    version        bigint      NOT NULL,
    build          bigint      NOT NULL,     -- 1, 2, 3 … within name and version
    fields         text        NOT NULL,     -- JSON: name and kind of each
    indexes        text        NOT NULL,     -- JSON: names of fields of each
    state          text        NOT NULL,     -- building, live, retired or cancelled
    position       bigint      NOT NULL,     -- how far the table came, and which event stood there
    event_id       uuid        NOT NULL,
    token          bigint      NOT NULL,     -- of whoever writes to it
    stopped_at     bigint,                   -- the position of the event that could not be taken, and why
    stopped_reason text,
    begun_at       timestamptz NOT NULL,
    target         bigint      NOT NULL,     -- where the log ended when it was begun
    read_at        timestamptz NOT NULL,     -- when somebody last said that they read it
    PRIMARY KEY (name, version, build)
);

-- The last build of each, so that no number is used again once its table was dropped.
CREATE TABLE builds (
    name    text   NOT NULL,
    version bigint NOT NULL,
    last    bigint NOT NULL,
    PRIMARY KEY (name, version)
);

-- Whether a token may write to a table: 'yes', 'fenced' or 'gone'. Until the end of the transaction that stays so.
CREATE FUNCTION may_write(of_name text, of_version bigint, of_build bigint, with_token bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    line record;
BEGIN
    SELECT t.state, t.token INTO line
    FROM tables t WHERE t.name = of_name AND t.version = of_version AND t.build = of_build
    FOR UPDATE;
    RETURN CASE
        WHEN NOT FOUND OR line.state NOT IN ('building', 'live') THEN 'gone'
        WHEN line.token <> with_token THEN 'fenced'
        ELSE 'yes'
    END;
END $$;

-- Gives readers a table that was built, in place of the one of the same name and version that they have now. Answers as may_write.
CREATE FUNCTION make_live(of_name text, of_version bigint, of_build bigint, with_token bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    verdict text := may_write(of_name, of_version, of_build, with_token);
BEGIN
    IF verdict = 'yes' THEN
        UPDATE tables t SET state = CASE WHEN t.build = of_build THEN 'live' ELSE 'retired' END
        WHERE t.name = of_name AND t.version = of_version AND (t.state = 'live' OR t.build = of_build);
    END IF;
    RETURN verdict;
END $$;
