-- INSERT OR REPLACE deletes the row whose place it takes, and calls no trigger of deletions for it. Positions are looked after by
-- events_are_gapless; these are the other places an event has.
CREATE TRIGGER events_are_never_replaced BEFORE INSERT ON events
WHEN EXISTS (
    SELECT 1 FROM events
    WHERE aggregate_type = NEW.aggregate_type AND aggregate_id = NEW.aggregate_id AND sequence = NEW.sequence
) OR EXISTS (SELECT 1 FROM events WHERE command_id = NEW.command_id AND command_index = NEW.command_index)
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER incarnations_are_never_replaced BEFORE INSERT ON incarnations
-- Before it is inserted, a row without a rowid of its own has one below 1.
WHEN EXISTS (SELECT 1 FROM incarnations WHERE id = NEW.id OR (NEW.rowid > 0 AND rowid = NEW.rowid))
BEGIN SELECT RAISE(ABORT, 'incarnations are append-only'); END;
