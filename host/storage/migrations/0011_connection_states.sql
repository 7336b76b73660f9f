-- What a provider keeps for good: at most one state for each connection, a few KiB. It belongs to the settings that the
-- connection had when it was stored, and goes with them and with the connection.
CREATE TABLE connection_states (
    -- The connection's.
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace_id     BLOB    NOT NULL,
    settings_version INTEGER NOT NULL,
    sealed_state     BLOB    NOT NULL,
    version          INTEGER NOT NULL CHECK (version > 0),
    -- When the provider is to be called next to renew the state, and how often it was since the state was stored.
    refresh_at       INTEGER,
    refresh_attempts INTEGER NOT NULL DEFAULT 0 CHECK (refresh_attempts >= 0),
    updated_at       INTEGER NOT NULL,
    FOREIGN KEY (workspace_id, id) REFERENCES connections (workspace_id, id) ON DELETE CASCADE
) STRICT;

CREATE INDEX connection_states_due ON connection_states (refresh_at) WHERE refresh_at IS NOT NULL;
