-- The seal of a row: a MAC over what the row says (src/row_seal.rs). NULL only until the host that opens the database for the
-- first time since has sealed all rows.
ALTER TABLE workspaces ADD COLUMN seal BLOB CHECK (length(seal) = 32);
ALTER TABLE api_keys ADD COLUMN seal BLOB CHECK (length(seal) = 32);
ALTER TABLE connections ADD COLUMN seal BLOB CHECK (length(seal) = 32);
ALTER TABLE connection_states ADD COLUMN seal BLOB CHECK (length(seal) = 32);
ALTER TABLE vault_entries ADD COLUMN seal BLOB CHECK (length(seal) = 32);
ALTER TABLE rotations ADD COLUMN seal BLOB CHECK (length(seal) = 32);

-- Whether the rows are sealed. The wrapped key is bound to it.
ALTER TABLE host_keys ADD COLUMN rows_sealed INTEGER NOT NULL DEFAULT 0 CHECK (rows_sealed IN (0, 1));

-- Who has begun a rotation: only they get its password again by beginning it again.
ALTER TABLE rotations ADD COLUMN begun_by TEXT;
