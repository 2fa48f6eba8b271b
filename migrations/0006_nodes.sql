-- The running services on this database, each with its lease: the right to answer out of its cache.
CREATE TABLE nodes (
    node_id          uuid PRIMARY KEY,
    renewal          bigint NOT NULL,
    lease_ms         integer NOT NULL CHECK (lease_ms BETWEEN 100 AND 10000),
    lease_expires_at timestamptz NOT NULL
);

COMMENT ON COLUMN nodes.renewal IS
    'Counts the renewals: who sees the same number for as long as the lease has seen the lease end.';
COMMENT ON COLUMN nodes.lease_ms IS 'How long the lease holds from the moment before its renewal was sent.';
COMMENT ON COLUMN nodes.lease_expires_at IS
    'By the database''s clock, for people: nothing is decided by it, for that clock may be set.';

-- Whoever changes what a verification says of a key, all nodes hear of it: also of what is done by
-- hand, or by a version that announces nothing itself. It says which node made the change, none,
-- and that nobody waits for it; then the tag of the key, the first eight bytes of its hash.
CREATE FUNCTION tell_nodes_of_key() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tollgate_changes', '00000000000000000000000000000000 0 '
        || encode(substring(NEW.key_hash FROM 1 FOR 8), 'hex'));
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_tell_nodes
    AFTER UPDATE OF scopes, enabled, expires_at, revoked_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_key();

CREATE FUNCTION tell_nodes_of_account() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tollgate_changes', '00000000000000000000000000000000 0 '
        || encode(substring(key_hash FROM 1 FOR 8), 'hex'))
    FROM api_keys WHERE account_id = NEW.account_id AND revoked_at IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER accounts_tell_nodes AFTER UPDATE OF status ON accounts
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_account();
