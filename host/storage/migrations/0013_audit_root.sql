-- The root of the audit log: how far each series had certainly come, as one line under a MAC. There
-- is one row. Rows that do not verify are kept beside it, as evidence. The anchors of earlier
-- releases are taken over by the first root, and removed with that.

CREATE TABLE audit_roots (
    root BLOB NOT NULL
) STRICT;
