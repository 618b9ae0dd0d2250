-- Who does what one node at a time does, and until when. Rows stay: a token that was given is never given again.
CREATE TABLE duties (
    duty       text        PRIMARY KEY,
    holder     uuid,                         -- the last one
    token      bigint      NOT NULL,         -- of its lease
    expires_at timestamptz NOT NULL          -- -infinity when it was given up
);
