-- Which account a secret manager counts the requests of a connection for, as its provider names it (NULL: the credential is an account of its own),
-- and which of the provider's rate-limit tiers the connection has chosen (NULL: the default).
ALTER TABLE connections ADD COLUMN account_key TEXT;
ALTER TABLE connections ADD COLUMN rate_limit_tier TEXT;
