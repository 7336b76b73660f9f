-- A platform's own id of a workspace.
ALTER TABLE workspaces ADD COLUMN external_id TEXT;
CREATE UNIQUE INDEX workspaces_external_id ON workspaces (external_id) WHERE external_id IS NOT NULL;
