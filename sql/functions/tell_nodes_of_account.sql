-- Notifies all nodes when an account is suspended or reactivated: all its keys are affected.
CREATE OR REPLACE FUNCTION tell_nodes_of_account() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('tollgate_changes', '00000000000000000000000000000000 0 '
        || encode(substring(key_hash FROM 1 FOR 8), 'hex'))
    FROM api_keys WHERE account_id = NEW.account_id AND revoked_at IS NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER accounts_tell_nodes AFTER UPDATE OF status ON accounts
    FOR EACH ROW EXECUTE FUNCTION tell_nodes_of_account();
