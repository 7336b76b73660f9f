-- By the item that they are bound to: over which connections it is shared.
CREATE INDEX vault_entries_of_item ON vault_entries (workspace_id, secret_ref, connection_id)
    WHERE secret_ref IS NOT NULL;
