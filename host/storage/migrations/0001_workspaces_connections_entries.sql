-- Times are milliseconds since 1970, identifiers 16 bytes. What is named sealed or wrapped is an envelope (src/envelope.rs).

CREATE TABLE master_keys (
    term       INTEGER NOT NULL PRIMARY KEY CHECK (term > 0),
    key_id     BLOB    NOT NULL CHECK (length(key_id) = 16),
    uses       INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workspaces (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workspace_keys (
    workspace_id BLOB    NOT NULL REFERENCES workspaces (id),
    term         INTEGER NOT NULL CHECK (term > 0),
    wrapped_key  BLOB    NOT NULL,
    master_term  INTEGER NOT NULL REFERENCES master_keys (term),
    uses         INTEGER NOT NULL DEFAULT 0,
    version      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, term)
) STRICT;

CREATE TABLE api_keys (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace_id BLOB    NOT NULL REFERENCES workspaces (id),
    name         TEXT    NOT NULL,
    lookup       TEXT    NOT NULL UNIQUE,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    revoked_at   INTEGER
) STRICT;

CREATE INDEX api_keys_of_workspace ON api_keys (workspace_id, id);

CREATE TABLE connections (
    id                BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace_id      BLOB    NOT NULL REFERENCES workspaces (id),
    name              TEXT    NOT NULL,
    provider_type     TEXT    NOT NULL,
    sealed_settings   BLOB    NOT NULL,
    hints             TEXT    NOT NULL,
    account           TEXT    NOT NULL,
    read_only         INTEGER CHECK (read_only IN (0, 1)),
    cache_ttl_seconds INTEGER NOT NULL CHECK (cache_ttl_seconds >= 0),
    cache_generation  INTEGER NOT NULL DEFAULT 0,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    -- What an entry's binding refers to, so that it cannot name a connection of another workspace.
    UNIQUE (workspace_id, id)
) STRICT;

CREATE TABLE vault_entries (
    id                   BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace_id         BLOB    NOT NULL REFERENCES workspaces (id),
    permissioned_user_id TEXT    NOT NULL,
    domain               TEXT    NOT NULL,
    user_alias           TEXT,
    tfa_method           TEXT,
    connection_id        BLOB,
    secret_ref           TEXT,
    cache_ttl_seconds    INTEGER CHECK (cache_ttl_seconds >= 0),
    sealed_credentials   BLOB,
    version              INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL,
    UNIQUE (workspace_id, permissioned_user_id, domain),
    FOREIGN KEY (workspace_id, connection_id) REFERENCES connections (workspace_id, id),
    CHECK ((connection_id IS NULL) = (secret_ref IS NULL)),
    CHECK (cache_ttl_seconds IS NULL OR connection_id IS NOT NULL),
    CHECK (sealed_credentials IS NULL OR connection_id IS NULL)
) STRICT;

CREATE INDEX vault_entries_in_order ON vault_entries (workspace_id, id);
CREATE INDEX vault_entries_of_connection ON vault_entries (connection_id) WHERE connection_id IS NOT NULL;
