-- Whether the audit log has a root. The wrapped key is bound to it, so a root that is gone was removed.
ALTER TABLE host_keys ADD COLUMN has_audit_root INTEGER NOT NULL DEFAULT 0 CHECK (has_audit_root IN (0, 1));
