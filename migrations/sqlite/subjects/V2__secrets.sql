-- Values of named secrets, each sealed under a key of its own, which the key-encryption key wraps. Which of them is in force, if any,
-- the log tells by its id.
CREATE TABLE secrets (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT NOT NULL,
    wrapped_key BLOB NOT NULL,
    sealed      BLOB NOT NULL,
    kept_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_by_name ON secrets (name, id);
