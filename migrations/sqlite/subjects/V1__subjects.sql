-- Keys, credentials and sessions: what must be forgettable, and so never stands in the event log.
-- Times are milliseconds since 1970 in UTC. Ids are UUIDs, keys and hashes bytes.

-- The keys of this instance itself, wrapped by the key-encryption key.
CREATE TABLE instance_keys (
    name    TEXT PRIMARY KEY,
    key_id  BLOB NOT NULL CHECK (length(key_id) = 16),
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a person. Deleting it is what erases the person: whatever their key sealed can never be read again.
CREATE TABLE subjects (
    user_id     BLOB PRIMARY KEY CHECK (length(user_id) = 16),
    email_hmac  BLOB NOT NULL UNIQUE CHECK (length(email_hmac) = 32),
    wrapped_key BLOB NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Password hashes, in PHC string format; events name them by id.
CREATE TABLE credentials (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    user_id    BLOB NOT NULL REFERENCES subjects ON DELETE CASCADE,
    phc        TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credentials_of_user ON credentials (user_id);

-- Only hashes of tokens: whoever reads this table cannot sign in with it.
CREATE TABLE sessions (
    id         BLOB PRIMARY KEY CHECK (length(id) = 16),
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    user_id    BLOB NOT NULL REFERENCES subjects ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- How far those who follow the log on behalf of this store came, and which event stood there.
CREATE TABLE checkpoints (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    event_id BLOB NOT NULL CHECK (length(event_id) = 16)
) STRICT, WITHOUT ROWID;
