-- The networks from which keys may be used. The columns are nullable, so that adding them rewrites no row. The
-- constraints are not checked for existing rows, which are all NULL.

-- While this waits for a lock, other statements wait behind it. If the wait ends by this timeout, the loader
-- tries again after a pause. The tables are locked in the order in which batches of purchases lock them.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE accounts
    ADD COLUMN allowed_ips cidr[],
    ADD CONSTRAINT accounts_allowed_ips CHECK (
        cardinality(allowed_ips) BETWEEN 1 AND 100 AND array_position(allowed_ips, NULL) IS NULL) NOT VALID;

COMMENT ON COLUMN accounts.allowed_ips IS
    'The networks from which the keys of the account may be used. NULL: any address.';

ALTER TABLE api_keys
    ADD COLUMN allowed_ips cidr[],
    ADD CONSTRAINT api_keys_allowed_ips CHECK (
        cardinality(allowed_ips) BETWEEN 1 AND 100 AND array_position(allowed_ips, NULL) IS NULL) NOT VALID;

COMMENT ON COLUMN api_keys.allowed_ips IS
    'The networks from which the key may be used. NULL: any address that the account allows.';

ALTER TABLE api_key_usage
    DROP CONSTRAINT api_key_usage_outcome,
    ADD CONSTRAINT api_key_usage_outcome CHECK (outcome IN (
        'valid', 'revoked', 'expired', 'disabled', 'account_suspended', 'ip_not_allowed',
        'insufficient_scope', 'rate_limited')) NOT VALID;
