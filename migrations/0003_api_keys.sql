CREATE TABLE api_keys (
    account_id     uuid NOT NULL REFERENCES accounts,
    key_id         uuid NOT NULL,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    key_hash       bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    hint           text NOT NULL,
    name           text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    scopes         text[] NOT NULL CHECK (cardinality(scopes) BETWEEN 1 AND 32),
    metadata       json NOT NULL CHECK (json_typeof(metadata) = 'object'),
    enabled        boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz,
    revoked_at     timestamptz,
    revoked_reason text CHECK (char_length(revoked_reason) BETWEEN 1 AND 200),
    rotated_from   uuid,
    rotated_to     uuid,
    spend_limit    bigint CHECK (spend_limit > 0),
    spend_period   text CHECK (spend_period IN ('day', 'month', 'total')),
    spends_as      uuid,
    PRIMARY KEY (account_id, key_id),
    CONSTRAINT api_keys_expiry_after_creation CHECK (expires_at > created_at),
    CHECK (revoked_at IS NOT NULL OR revoked_reason IS NULL),
    CONSTRAINT api_keys_rotated_is_dying CHECK (
        rotated_to IS NULL OR expires_at IS NOT NULL OR revoked_at IS NOT NULL),
    CONSTRAINT api_keys_spend_limit CHECK ((spend_limit IS NULL) = (spend_period IS NULL)),
    CONSTRAINT api_keys_spends_as CHECK ((rotated_from IS NULL) = (spends_as IS NULL)),
    FOREIGN KEY (account_id, rotated_from) REFERENCES api_keys (account_id, key_id)
);

-- Every verification finds its key by this index.
CREATE UNIQUE INDEX api_keys_key_hash ON api_keys (key_hash);

COMMENT ON COLUMN api_keys.key_id IS 'UUIDv7, so that ids sort in the order of creation.';
COMMENT ON COLUMN api_keys.tenant_id IS
    'A copy of accounts.tenant_id.';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key''s text. The text itself is not stored.';
COMMENT ON COLUMN api_keys.hint IS
    'The prefix, the first four characters after it, an ellipsis, and the last four characters.';
COMMENT ON COLUMN api_keys.metadata IS
    'An object that the tenant chooses. json and not jsonb, because json keeps the order of members.';
COMMENT ON COLUMN api_keys.enabled IS
    'A disabled key does not pass, but it is live: it counts toward max_keys and can be enabled again.';
COMMENT ON COLUMN api_keys.expires_at IS
    'The key is dead from exactly this time on, by the database''s clock. NULL: the key never expires.';
COMMENT ON COLUMN api_keys.rotated_to IS
    'The key that replaced this key. During the grace period this key still passes, but it does not count '
    'toward max_keys.';
COMMENT ON COLUMN api_keys.spend_limit IS
    'Minor units that the key may spend per spend_period. NULL: no limit.';
COMMENT ON COLUMN api_keys.spend_period IS
    'The period of spend_limit: a UTC day, a UTC month, or total (the lifetime of the key).';
COMMENT ON COLUMN api_keys.spends_as IS
    'The first key of a chain of rotations; all keys of the chain share its spend counter. NULL: this '
    'key is the first.';
