-- Whose item it is. What is kept about an item (its open rotation, its generation) belongs to the account that the item is in: two
-- accounts may well have items of the same reference. The id of an account is its provider's type and the key that the provider
-- names it by; without a key, the connection's own id (src/item.rs).
ALTER TABLE connections ADD COLUMN account_id TEXT NOT NULL DEFAULT '';
UPDATE connections SET account_id =
    CASE WHEN account_key IS NULL THEN provider_type || ':' || lower(hex(id)) ELSE provider_type || '/' || account_key END;

-- Of rotations of items only; not of those that were over before whose connection is gone.
ALTER TABLE rotations ADD COLUMN account_id TEXT;
UPDATE rotations SET account_id =
    (SELECT account_id FROM connections
     WHERE connections.workspace_id = rotations.workspace_id AND connections.id = rotations.connection_id);
DROP INDEX rotations_open_item;
CREATE UNIQUE INDEX rotations_open_item ON rotations (workspace_id, ifnull(account_id, ''), open_item)
    WHERE open_item IS NOT NULL;

-- Those of items that nothing is bound to any more may begin anew: nothing that is cached outlives its process.
ALTER TABLE item_generations RENAME TO item_generations_before;
CREATE TABLE item_generations (
    workspace_id BLOB    NOT NULL REFERENCES workspaces (id),
    account_id   TEXT    NOT NULL,
    secret_ref   TEXT    NOT NULL,
    generation   INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, account_id, secret_ref)
) STRICT;
INSERT INTO item_generations (workspace_id, account_id, secret_ref, generation)
SELECT DISTINCT before.workspace_id, account_id, before.secret_ref, generation
FROM item_generations_before AS before
    JOIN vault_entries ON vault_entries.workspace_id = before.workspace_id AND vault_entries.secret_ref = before.secret_ref
    JOIN connections ON connections.id = vault_entries.connection_id;
DROP TABLE item_generations_before;
CREATE TRIGGER item_generations_added AFTER INSERT ON item_generations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER item_generations_changed AFTER UPDATE ON item_generations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
