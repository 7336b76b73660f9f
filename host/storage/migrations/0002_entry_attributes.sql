-- What an entry carries along for whoever drives the browser (cookies, storages, proxy, flags), in one envelope: the
-- database has no use for any of it, and most of it is as good as a password.
ALTER TABLE vault_entries ADD COLUMN sealed_attributes BLOB;
-- When cookies or browser storages were last set; what expiries count from.
ALTER TABLE vault_entries ADD COLUMN session_data_set_at INTEGER;
-- An entry is backed by a provider or uses a passkey, never both.
ALTER TABLE vault_entries ADD COLUMN passkey INTEGER NOT NULL DEFAULT 0
    CHECK (passkey IN (0, 1) AND (passkey = 0 OR connection_id IS NULL));
