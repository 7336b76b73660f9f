-- Which account a secret manager counts the requests of a connection for, as its provider names it
-- (NULL: the credential is an account of its own), and which of the provider's rate-limit tiers the
-- connection has chosen (NULL: the default).
ALTER TABLE connections ADD COLUMN account_key TEXT;
ALTER TABLE connections ADD COLUMN rate_limit_tier TEXT;

-- Until now requests were counted by the account's name, unless it was one of the sign-in addresses
-- that many accounts share. Their counts go on under the same key.
UPDATE connections SET account_key = account
WHERE account <> ''
  AND NOT (provider_type = '1password'
           AND account IN ('my.1password.com', 'my.1password.eu', 'my.1password.ca'));
