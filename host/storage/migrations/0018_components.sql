-- The component that served a provider type last. A change of it is in the audit log.
CREATE TABLE components (
    provider_type TEXT NOT NULL PRIMARY KEY,
    digest        TEXT NOT NULL
) STRICT;
