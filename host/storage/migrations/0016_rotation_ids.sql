-- The id of a rotation may be the caller's, so it is unique in its workspace only: a refusal must not tell that another workspace
-- has used it. The table is made anew, because a primary key cannot be changed. Its rows keep their seals.
ALTER TABLE rotations RENAME TO rotations_before;

CREATE TABLE rotations (
    id                BLOB    NOT NULL CHECK (length(id) = 16),
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
    open_entry_id     BLOB REFERENCES vault_entries (id),
    open_item         TEXT,
    version           INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    account_id        TEXT,
    begun_by          TEXT,
    failed_settings   INTEGER,
    seal              BLOB CHECK (length(seal) = 32),
    PRIMARY KEY (workspace_id, id),
    CHECK ((connection_id IS NULL) = (secret_ref IS NULL)),
    CHECK ((sealed_password IS NULL) = (state IN ('skipped', 'done', 'abandoned'))),
    CHECK ((sealed_password IS NULL) = (open_entry_id IS NULL)),
    CHECK ((sealed_password IS NULL) = (open_item IS NULL)),
    CHECK ((next_attempt_at IS NULL) = (state <> 'committing'))
) STRICT;

INSERT INTO rotations (
    id, workspace_id, entry_id, connection_id, secret_ref, state, reason, message, sealed_password, expected_revision, attempts,
    attempt_until, next_attempt_at, open_entry_id, open_item, version, created_at, updated_at, account_id, begun_by, failed_settings,
    seal
)
SELECT
    id, workspace_id, entry_id, connection_id, secret_ref, state, reason, message, sealed_password, expected_revision, attempts,
    attempt_until, next_attempt_at, open_entry_id, open_item, version, created_at, updated_at, account_id, begun_by, failed_settings,
    seal
FROM rotations_before;

-- With its indexes and triggers.
DROP TABLE rotations_before;

CREATE UNIQUE INDEX rotations_open_item ON rotations (workspace_id, ifnull(account_id, ''), open_item)
    WHERE open_item IS NOT NULL;
CREATE INDEX rotations_open_entry ON rotations (open_entry_id) WHERE open_entry_id IS NOT NULL;
CREATE INDEX rotations_of_entry ON rotations (workspace_id, entry_id, id);
CREATE INDEX rotations_committing ON rotations (next_attempt_at) WHERE state = 'committing';
CREATE INDEX rotations_failed ON rotations (connection_id) WHERE state = 'write_back_failed';

CREATE TRIGGER rotations_added AFTER INSERT ON rotations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER rotations_changed AFTER UPDATE ON rotations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
