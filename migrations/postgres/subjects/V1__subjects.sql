-- Keys, credentials and sessions: what must be forgettable, and so never stands in the event log.
-- In a schema of its own, so that it is backed up, and its backups expire, apart from the log.

-- The keys of this instance itself, wrapped by the key-encryption key.
CREATE TABLE instance_keys (
    name    text  PRIMARY KEY,
    key_id  uuid  NOT NULL,
    wrapped bytea NOT NULL
);

-- One row a person. Deleting it is what erases the person: whatever their key sealed can never be read again.
CREATE TABLE subjects (
    user_id     uuid   PRIMARY KEY,
    email_hmac  bytea  NOT NULL UNIQUE CHECK (length(email_hmac) = 32),
    wrapped_key bytea  NOT NULL,
    created_at  bigint NOT NULL      -- milliseconds since 1970, as all times here
);

-- Password hashes, in PHC string format; events name them by id.
CREATE TABLE credentials (
    id         uuid   PRIMARY KEY,
    user_id    uuid   NOT NULL REFERENCES subjects ON DELETE CASCADE,
    phc        text   NOT NULL,
    created_at bigint NOT NULL
);
CREATE INDEX credentials_of_user ON credentials (user_id);

-- Only hashes of tokens: whoever reads this table cannot sign in with it.
CREATE TABLE sessions (
    id         uuid   PRIMARY KEY,
    token_hash bytea  NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    user_id    uuid   NOT NULL REFERENCES subjects ON DELETE CASCADE,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- How far those who follow the log on behalf of this store came, and which event stood there.
CREATE TABLE checkpoints (
    name     text   PRIMARY KEY,
    position bigint NOT NULL,
    event_id uuid   NOT NULL
);
