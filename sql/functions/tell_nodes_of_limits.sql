-- Notifies all nodes when rate limits change. As a trigger it also covers changes by hand.
CREATE OR REPLACE FUNCTION tell_nodes_of_limits() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_tags text[] := '{}';
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'api_keys' THEN v_tags := ARRAY[key_tag(NEW.key_hash)];
        WHEN 'accounts' THEN v_tags := ARRAY(
            SELECT key_tag(key_hash) FROM api_keys
            WHERE account_id = NEW.account_id
              AND key_is_live(revoked_at, expires_at, clock_timestamp()));
        -- A change of a tenant affects all of its keys, which are too many to list.
        ELSE NULL;
    END CASE;
    -- No node caches anything about an account without live keys.
    IF TG_TABLE_NAME <> 'accounts' OR cardinality(v_tags) > 0 THEN
        PERFORM announce_change(
            p_kind => 'limits', p_node => NULL, p_number => 0, p_tenant => NEW.tenant_id,
            p_tags => v_tags);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER accounts_tell_nodes_of_limits AFTER UPDATE OF rate_limits ON accounts
    FOR EACH ROW WHEN (NEW.rate_limits IS DISTINCT FROM OLD.rate_limits)
    EXECUTE FUNCTION tell_nodes_of_limits();
CREATE OR REPLACE TRIGGER api_keys_tell_nodes_of_limits
    AFTER UPDATE OF rate_limits, owner_rate_limits ON api_keys FOR EACH ROW
    WHEN (NEW.limits_generation <> OLD.limits_generation)
    EXECUTE FUNCTION tell_nodes_of_limits();
CREATE OR REPLACE TRIGGER tenant_limits_tell_nodes AFTER INSERT OR UPDATE ON tenant_limits
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_limits();
