-- Takes one of an agent's slots for a task, or says why not: 'yes', 'full' or 'held'.
--
-- Who claims for one agent waits for the others who do: what is counted below stays so until the claim stands.
--   claim   drawn for this claim alone
--   ttl_ms  how long the slot is held unless it is renewed, by the clock of this server
CREATE FUNCTION take_slot(agent uuid, slots_max integer, task uuid, claim uuid, ttl_ms bigint) RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    moment timestamptz;
    used   integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || ' slots of ' || agent, 20261122));
    -- Read behind the lock: an older moment could take a lease for alive that has run out.
    moment := clock_timestamp();
    IF EXISTS (SELECT FROM leases WHERE task_id = task AND expires_at > moment) THEN
        RETURN 'held';
    END IF;
    DELETE FROM leases WHERE (task_id = task OR agent_id = agent) AND expires_at <= moment;
    SELECT count(*) INTO used FROM leases WHERE agent_id = agent;
    IF used >= slots_max THEN
        RETURN 'full';
    END IF;
    -- One of the first used + 1 slots is free.
    INSERT INTO leases (agent_id, slot, task_id, holder, expires_at)
    SELECT agent, min(s.slot), task, claim, moment + ttl_ms * interval '1 millisecond'
    FROM generate_series(1, used + 1) AS s (slot)
    WHERE NOT EXISTS (SELECT FROM leases WHERE agent_id = agent AND leases.slot = s.slot)
    -- A claim on the same task for another agent, which waits for another lock.
    ON CONFLICT (task_id) DO NOTHING;
    RETURN CASE WHEN FOUND THEN 'yes' ELSE 'held' END;
END $$;
