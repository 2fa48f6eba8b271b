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

-- How every request finds its key. In a cluster that is spread by account_id this one becomes a
-- plain index: nothing relies on its being unique but the odds against two equal SHA-256.
CREATE UNIQUE INDEX api_keys_key_hash ON api_keys (key_hash);

COMMENT ON COLUMN api_keys.key_id IS 'UUIDv7: its order is that of creation.';
COMMENT ON COLUMN api_keys.tenant_id IS
    'That of the account, so that a verification need not read it there.';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the whole text. The text itself is nowhere.';
COMMENT ON COLUMN api_keys.hint IS 'Prefix, first four characters of the body, …, last four.';
COMMENT ON COLUMN api_keys.metadata IS 'The tenant''s own; json, not jsonb: it keeps the order of the members.';
COMMENT ON COLUMN api_keys.enabled IS
    'A disabled key does not pass but is live: it counts toward the cap and can be enabled.';
COMMENT ON COLUMN api_keys.expires_at IS
    'At exactly this moment of the database''s clock the key is dead. NULL: never.';
COMMENT ON COLUMN api_keys.rotated_to IS
    'The key that replaced this one. Until it dies this one passes but does not count toward the cap.';
COMMENT ON COLUMN api_keys.spend_limit IS
    'Minor units that the key may spend in each spend_period; NULL: all there is.';
COMMENT ON COLUMN api_keys.spend_period IS 'A day or a month of UTC, or total: all its life.';
COMMENT ON COLUMN api_keys.spends_as IS
    'The first of the keys that replaced each other, which spend together. NULL: this is it.';
