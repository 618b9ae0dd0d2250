-- Appends a batch of commands in one statement, and so in one transaction of its own.
--
-- Whoever appends holds the log's lock until the transaction ends, which PostgreSQL does only after the rows can be seen. So
-- positions are given in commit order, and a reader that saw N never later finds an event at or below N.
--
-- First everything is inserted as if no command had lost a race: the unique indexes say so if one did. Only then, still under the
-- lock, is looked up which commands lost and to whom, and the others are written without them.
--
-- Commands are counted from 1. A batch holds one command per stream and per command id.
--   c_*  one element a command: its id, and the digest of its request
--   s_*  one element for each stream that a command appends to: the command, the stream, and the sequence it expects
--   e_*  one element an event: the command, its place, and its content
-- Answers one row with command 0, whose position is where the log stood before, and one for each command that was not appended:
--   'repeated'  its id stands under the same digest: stream, sequence and position are those of its first result
--   'reused'    its id stands under another digest
--   'conflict'  the stream does not stand at the sequence it expects
CREATE FUNCTION append_events(
    c_id uuid[], c_digest text[],
    s_command integer[], s_type text[], s_id uuid[], s_expected bigint[],
    e_command integer[], e_command_id uuid[], e_command_index integer[], e_type text[], e_id uuid[], e_sequence bigint[],
    e_event_id uuid[], e_event_type text[], e_event_version integer[], e_payload bytea[], e_metadata text[]
) RETURNS TABLE (command integer, verdict text, stream_type text, stream_id uuid, at_sequence bigint, at_position bigint)
LANGUAGE plpgsql
-- The indexes are right whatever the planner knows of a table that was empty when this session planned.
SET enable_seqscan = off
SET search_path FROM CURRENT
AS $$
DECLARE
    head   bigint;
    moment timestamptz;
    lost   integer[] := '{}';
    place  record;
BEGIN
    -- Under any other isolation the statements below would not see what was committed while this one waited for the lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'events are appended under read committed, not under %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema(), 20261122));

    SELECT position, recorded_at INTO head, moment FROM events ORDER BY position DESC LIMIT 1;
    head := coalesce(head, 0);
    -- A clock set back must not make an event older than the one before it.
    moment := greatest(date_trunc('milliseconds', clock_timestamp()), moment);
    command := 0;
    at_position := head;
    RETURN NEXT;

    BEGIN
        INSERT INTO events
        SELECT head + e.ordinal, e.type, e.id, e.sequence, e.event_type, e.event_version, e.payload, e.metadata::json,
               e.event_id, e.command_id, e.command_index, moment
        FROM unnest(e_type, e_id, e_sequence, e_event_type, e_event_version, e_payload, e_metadata, e_event_id, e_command_id,
                    e_command_index)
             WITH ORDINALITY AS e (type, id, sequence, event_type, event_version, payload, metadata, event_id, command_id,
                                   command_index, ordinal);
        -- A stream may also stand behind what is expected; then no index is violated, but nothing stands there. Most commands begin
        -- their stream, and need no look.
        IF 0 < ANY (s_expected) THEN
            IF EXISTS (
                SELECT FROM unnest(s_type, s_id, s_expected) AS s (type, id, expected)
                WHERE s.expected > 0 AND NOT EXISTS (
                    SELECT FROM events WHERE aggregate_type = s.type AND aggregate_id = s.id AND sequence = s.expected
                )
            ) THEN
                RAISE unique_violation;
            END IF;
        END IF;
        RETURN;
    EXCEPTION WHEN unique_violation THEN
        -- What was inserted is undone; the lock is still held.
    END;

    FOR i IN 1 .. cardinality(c_id) LOOP
        SELECT aggregate_type, aggregate_id, metadata ->> 'digest' AS digest INTO place
        FROM events WHERE command_id = c_id[i] AND command_index = 0;
        IF FOUND THEN
            lost := lost || i;
            command := i;
            verdict := CASE WHEN place.digest IS NOT DISTINCT FROM c_digest[i] THEN 'repeated' ELSE 'reused' END;
            stream_type := place.aggregate_type;
            stream_id := place.aggregate_id;
            SELECT max(position), max(sequence) FILTER (WHERE aggregate_type = stream_type AND aggregate_id = stream_id)
            INTO at_position, at_sequence
            FROM events WHERE command_id = c_id[i];
            RETURN NEXT;
        END IF;
    END LOOP;

    FOR i IN 1 .. cardinality(s_command) LOOP
        CONTINUE WHEN s_command[i] = ANY (lost);
        SELECT coalesce(max(sequence), 0) INTO at_sequence
        FROM events WHERE aggregate_type = s_type[i] AND aggregate_id = s_id[i];
        IF at_sequence <> s_expected[i] THEN
            lost := lost || s_command[i];
            command := s_command[i];
            verdict := 'conflict';
            stream_type := s_type[i];
            stream_id := s_id[i];
            at_sequence := s_expected[i];
            at_position := NULL;
            RETURN NEXT;
        END IF;
    END LOOP;

    INSERT INTO events
    SELECT head + row_number() OVER (ORDER BY e.ordinal), e.type, e.id, e.sequence, e.event_type, e.event_version, e.payload,
           e.metadata::json, e.event_id, e.command_id, e.command_index, moment
    FROM unnest(e_type, e_id, e_sequence, e_event_type, e_event_version, e_payload, e_metadata, e_event_id, e_command_id,
                e_command_index, e_command)
         WITH ORDINALITY AS e (type, id, sequence, event_type, event_version, payload, metadata, event_id, command_id,
                               command_index, command, ordinal)
    WHERE e.command <> ALL (lost);
END $$;
