-- A tenant can be suspended. The column has a constant default, so that adding it rewrites no row.

-- While this waits for a lock, other statements wait behind it. If the wait ends by this timeout, the loader
-- tries again after a pause.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE tenants
    ADD COLUMN status text NOT NULL DEFAULT 'active'
        CONSTRAINT tenants_status CHECK (status IN ('active', 'suspended'));

COMMENT ON COLUMN tenants.status IS
    'The API keys, the admin keys and the dashboard of a suspended tenant are refused. This is the only column '
    'that changes.';

ALTER TABLE api_key_usage
    DROP CONSTRAINT api_key_usage_outcome,
    ADD CONSTRAINT api_key_usage_outcome CHECK (outcome IN (
        'valid', 'revoked', 'expired', 'disabled', 'tenant_suspended', 'account_suspended', 'ip_not_allowed',
        'insufficient_scope', 'rate_limited')) NOT VALID;
