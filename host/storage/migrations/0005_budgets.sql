-- What is counted and remembered of the calls that providers make (src/budget). Times are milliseconds since 1970. A subject is a keyed fingerprint
-- of a token or of an account, 16 bytes; nothing here says which one it is to somebody without the host's keys.

-- Keys of the host itself, wrapped by the master key like a workspace's. When the master key changes, they have to be wrapped anew.
CREATE TABLE host_keys (
    name        TEXT    NOT NULL PRIMARY KEY,
    wrapped_key BLOB    NOT NULL,
    master_term INTEGER NOT NULL REFERENCES master_keys (term),
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

-- Requests by the slot of time in which they were reserved, before they were made.
CREATE TABLE request_counts (
    subject  BLOB    NOT NULL CHECK (length(subject) = 16),
    kind     TEXT    NOT NULL CHECK (kind IN ('read', 'write', 'any')),
    slot     INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (subject, kind, slot)
) STRICT;

CREATE INDEX request_counts_by_age ON request_counts (slot);

-- One for each token that has failed.
CREATE TABLE breakers (
    subject    BLOB    NOT NULL PRIMARY KEY CHECK (length(subject) = 16),
    failures   INTEGER NOT NULL CHECK (failures >= 0),
    reason     TEXT    CHECK (reason IN ('unavailable', 'rate-limited', 'refused')),
    until      INTEGER,
    strikes    INTEGER NOT NULL CHECK (strikes >= 0),
    probing    INTEGER NOT NULL CHECK (probing IN (0, 1)),
    version    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((reason IS NULL) = (until IS NULL))
) STRICT;
