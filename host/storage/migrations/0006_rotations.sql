-- The journal of password rotations (src/rotation). A rotation is open until it is done, abandoned or skipped; while it is,
-- it holds the new password, its entry cannot be deleted, and there is no other of the same item. What is not open
-- any more holds no secret and stays as history, also when its entry is gone.
CREATE TABLE rotations (
    id                BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    workspace_id      BLOB    NOT NULL REFERENCES workspaces (id),
    entry_id          BLOB    NOT NULL,
    connection_id     BLOB,
    secret_ref        TEXT,
    state             TEXT    NOT NULL CHECK (
        state IN ('skipped', 'prepared', 'committing', 'write_back_failed', 'conflicted', 'done', 'abandoned')
    ),
    reason            TEXT,
    message           TEXT,
    sealed_password   BLOB,
    expected_revision TEXT,
    attempts          INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    attempt_until     INTEGER,
    next_attempt_at   INTEGER,
    -- The entry, and what is rotated (the item, else the entry itself), while it is open.
    open_entry_id     BLOB REFERENCES vault_entries (id),
    open_item         TEXT,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    CHECK ((connection_id IS NULL) = (secret_ref IS NULL)),
    CHECK ((sealed_password IS NULL) = (state IN ('skipped', 'done', 'abandoned'))),
    CHECK ((sealed_password IS NULL) = (open_entry_id IS NULL)),
    CHECK ((sealed_password IS NULL) = (open_item IS NULL)),
    CHECK ((next_attempt_at IS NULL) = (state <> 'committing'))
) STRICT;

CREATE UNIQUE INDEX rotations_open_item ON rotations (workspace_id, open_item) WHERE open_item IS NOT NULL;
CREATE INDEX rotations_open_entry ON rotations (open_entry_id) WHERE open_entry_id IS NOT NULL;
CREATE INDEX rotations_in_order ON rotations (workspace_id, id);
CREATE INDEX rotations_of_entry ON rotations (workspace_id, entry_id, id);
CREATE INDEX rotations_committing ON rotations (next_attempt_at) WHERE state = 'committing';

-- How many times a rotation has written an item: what was cached of it at a lower number is not used any more.
CREATE TABLE item_generations (
    workspace_id BLOB    NOT NULL REFERENCES workspaces (id),
    secret_ref   TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, secret_ref)
) STRICT;
