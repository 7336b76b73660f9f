-- With which settings writing a password back has failed: with newer ones it is tried again. Settings have the version at which their connection
-- got them, so that a new name is no reason.
ALTER TABLE connections ADD COLUMN settings_version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE rotations ADD COLUMN failed_settings INTEGER CHECK (failed_settings IS NULL OR state = 'write_back_failed');

UPDATE rotations SET failed_settings = 1
WHERE state = 'write_back_failed' AND connection_id IS NOT NULL AND reason IS NOT 'damaged';

CREATE INDEX rotations_failed ON rotations (connection_id) WHERE state = 'write_back_failed';
