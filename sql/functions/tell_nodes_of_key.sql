-- Notifies all nodes when a key changes in a way that affects verifications. As a trigger it also covers
-- changes by hand and by other versions of the program.
CREATE OR REPLACE FUNCTION tell_nodes_of_key() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_change(
        p_kind => 'keys', p_node => NULL, p_number => 0, p_tenant => NEW.tenant_id,
        p_tags => ARRAY[key_tag(NEW.key_hash)]);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER api_keys_tell_nodes
    AFTER UPDATE OF scopes, enabled, expires_at, revoked_at, allowed_ips ON api_keys
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_key();
