-- Notifies all nodes when the status, the list of networks or the plan of an account changes, which affects
-- every live key of the account.
CREATE OR REPLACE FUNCTION tell_nodes_of_account() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_change(
        p_kind => 'account', p_node => NULL, p_number => 0, p_tenant => NEW.tenant_id, p_tags => ARRAY(
            SELECT key_tag(key_hash) FROM api_keys
            WHERE account_id = NEW.account_id
              AND key_is_live(revoked_at, expires_at, clock_timestamp())));
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER accounts_tell_nodes AFTER UPDATE OF status, allowed_ips, plan ON accounts
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_account();
