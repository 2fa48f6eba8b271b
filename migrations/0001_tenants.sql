-- A tenant is a platform in one environment. Rows never change, so nodes cache tenants forever.
CREATE TABLE tenants (
    tenant_id      uuid PRIMARY KEY,
    slug           text NOT NULL CHECK (slug ~ '^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$'),
    environment    text NOT NULL CHECK (environment IN ('live', 'test')),
    prefix         text NOT NULL
        CONSTRAINT tenants_prefix_grammar
            CHECK (prefix ~ '^[a-z][a-z0-9]*(_[a-z0-9]+)*_$' AND length(prefix) <= 16)
        CONSTRAINT tenants_prefix_reserved
            CHECK (NOT starts_with(prefix, 'tg_admin_') AND NOT starts_with('tg_admin_', prefix)),
    max_keys       smallint NOT NULL CHECK (max_keys BETWEEN 1 AND 1000),
    currency       text NOT NULL CHECK (currency ~ '^[A-Z][A-Z0-9]{1,9}$'),
    decimals       smallint NOT NULL CHECK (decimals BETWEEN 0 AND 18),
    account_format text NOT NULL CHECK (account_format IN ('any', 'tron')),
    default_scopes text[] NOT NULL CHECK (cardinality(default_scopes) BETWEEN 1 AND 32),
    created_at     timestamptz NOT NULL,
    CONSTRAINT tenants_slug_environment UNIQUE (slug, environment),
    CONSTRAINT tenants_prefix UNIQUE (prefix)
);

COMMENT ON COLUMN tenants.prefix IS
    'The first characters of every API key of the tenant. No prefix is the start of another prefix.';
COMMENT ON COLUMN tenants.max_keys IS 'Maximum number of live keys per account.';
COMMENT ON COLUMN tenants.decimals IS
    'Decimal places of the currency: amounts are stored in minor units of 10^-decimals.';
COMMENT ON COLUMN tenants.default_scopes IS 'The scopes of a key that is created without scopes.';

CREATE TABLE admin_keys (
    admin_key_id uuid PRIMARY KEY,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    key_hash     bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    hint         text NOT NULL,
    name         text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    permissions  text[] NOT NULL CHECK (
        cardinality(permissions) >= 1
        AND permissions <@ ARRAY['accounts', 'keys', 'verify', 'credits', 'audit', 'dashboard']),
    created_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    CONSTRAINT admin_keys_key_hash UNIQUE (key_hash)
);

CREATE INDEX admin_keys_tenant ON admin_keys (tenant_id, admin_key_id);

COMMENT ON COLUMN admin_keys.key_hash IS
    'SHA-256 of the key''s text. The text itself is not stored.';
COMMENT ON COLUMN admin_keys.hint IS
    'The prefix, the first four characters after it, an ellipsis, and the last four characters.';
COMMENT ON COLUMN admin_keys.revoked_at IS
    'Never changes once it is set, because a revoked key stays revoked.';
