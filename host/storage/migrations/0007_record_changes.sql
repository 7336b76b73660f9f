-- Counts the changes of records that hosts keep in memory (src/record_cache.rs): a host whose records are from the current
-- count has nothing to read again. A record that is only added needs no count, unless its absence is kept, too.
CREATE TABLE record_changes (
    only   INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    number INTEGER NOT NULL
) STRICT;

INSERT INTO record_changes (only, number) VALUES (1, 0);

CREATE TRIGGER api_keys_changed AFTER UPDATE ON api_keys BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER api_keys_deleted AFTER DELETE ON api_keys BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER connections_changed AFTER UPDATE ON connections BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER connections_deleted AFTER DELETE ON connections BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER vault_entries_changed AFTER UPDATE ON vault_entries BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER vault_entries_deleted AFTER DELETE ON vault_entries BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER rotations_added AFTER INSERT ON rotations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER rotations_changed AFTER UPDATE ON rotations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER item_generations_added AFTER INSERT ON item_generations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER item_generations_changed AFTER UPDATE ON item_generations BEGIN
    UPDATE record_changes SET number = number + 1;
END;
-- Which keys a workspace has; not how often they were used.
CREATE TRIGGER workspace_keys_added AFTER INSERT ON workspace_keys BEGIN
    UPDATE record_changes SET number = number + 1;
END;
CREATE TRIGGER workspace_keys_deleted AFTER DELETE ON workspace_keys BEGIN
    UPDATE record_changes SET number = number + 1;
END;
