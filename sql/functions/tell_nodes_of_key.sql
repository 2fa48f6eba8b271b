-- Notifies all nodes when a key changes in a way that affects verifications, so that changes by hand and
-- changes by other versions of the program are covered too. The payload names no node and no change
-- number, because nobody waits for an acknowledgement, and the tag of the key: the first eight bytes of
-- its hash.
CREATE OR REPLACE FUNCTION tell_nodes_of_key() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tollgate_changes', '00000000000000000000000000000000 0 '
        || encode(substring(NEW.key_hash FROM 1 FOR 8), 'hex'));
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER api_keys_tell_nodes
    AFTER UPDATE OF scopes, enabled, expires_at, revoked_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_key();
