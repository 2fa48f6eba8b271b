-- Every table below belongs to accounts and has account_id first in its primary key: the schema
-- can be spread over the nodes of a Postgres cluster by it.

CREATE TABLE accounts (
    account_id  uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL REFERENCES tenants,
    external_id text NOT NULL CHECK (external_id ~ '^[!-~]{1,128}$'),
    status      text NOT NULL CHECK (status IN ('active', 'suspended')),
    balance     bigint NOT NULL CONSTRAINT accounts_balance_not_negative CHECK (balance >= 0),
    last_seq    bigint NOT NULL CHECK (last_seq >= 0),
    created_at  timestamptz NOT NULL
);

-- Newest first, within a tenant.
CREATE INDEX accounts_tenant_created ON accounts (tenant_id, created_at DESC, account_id DESC);

COMMENT ON COLUMN accounts.account_id IS
    'UUIDv5 of tenant_id (the namespace) and external_id: unique as the pair is.';
COMMENT ON COLUMN accounts.external_id IS
    'The tenant''s own id of the account: a wallet address, a user id.';
COMMENT ON COLUMN accounts.balance IS
    'Minor units of the tenant''s currency. Always the sum of the account''s ledger entries.';
COMMENT ON COLUMN accounts.last_seq IS 'seq of the newest ledger entry; 0 before the first.';

CREATE TRIGGER accounts_no_delete BEFORE DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

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
    PRIMARY KEY (account_id, key_id),
    CONSTRAINT api_keys_expiry_after_creation CHECK (expires_at > created_at),
    CHECK (revoked_at IS NOT NULL OR revoked_reason IS NULL),
    CONSTRAINT api_keys_rotated_is_dying CHECK (
        rotated_to IS NULL OR expires_at IS NOT NULL OR revoked_at IS NOT NULL),
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

CREATE FUNCTION check_api_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL OR OLD.expires_at <= clock_timestamp() THEN
        PERFORM raise_violation('api_keys_dead_stays_dead', 'a dead key cannot be changed');
    END IF;
    IF (NEW.account_id, NEW.key_id, NEW.tenant_id, NEW.key_hash, NEW.hint, NEW.created_at, NEW.rotated_from)
        IS DISTINCT FROM
        (OLD.account_id, OLD.key_id, OLD.tenant_id, OLD.key_hash, OLD.hint, OLD.created_at, OLD.rotated_from)
    THEN
        PERFORM raise_violation('api_keys_identity', 'a key keeps its identity');
    END IF;
    IF OLD.rotated_to IS NOT NULL AND (
        NEW.rotated_to IS DISTINCT FROM OLD.rotated_to
        OR NEW.expires_at IS NULL OR NEW.expires_at > OLD.expires_at
    ) THEN
        PERFORM raise_violation(
            'api_keys_rotated_once', 'a key that was rotated out dies when its grace ends');
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER api_keys_change BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION check_api_key_change();
CREATE TRIGGER api_keys_no_delete BEFORE DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
