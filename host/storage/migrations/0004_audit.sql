-- The audit log is in files (src/audit). Here is how far each of its series had certainly come. Its key is in host_keys.

CREATE TABLE audit_anchors (
    series INTEGER NOT NULL PRIMARY KEY CHECK (series > 0),
    number INTEGER NOT NULL CHECK (number >= 0),
    head   BLOB    NOT NULL CHECK (length(head) = 32),
    mac    BLOB    NOT NULL CHECK (length(mac) = 32),
    at     INTEGER NOT NULL
) STRICT;
