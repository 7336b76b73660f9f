-- A write that was refused keeps the settings that it was made with also while it is tried again: the column without its CHECK.
ALTER TABLE rotations ADD COLUMN refused_settings INTEGER;
UPDATE rotations SET refused_settings = failed_settings;
ALTER TABLE rotations DROP COLUMN failed_settings;
ALTER TABLE rotations RENAME COLUMN refused_settings TO failed_settings;
