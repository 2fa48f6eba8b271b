-- Refuses changes of revoked or expired keys, and changes of a key's identity. As a trigger it also runs
-- for changes that are made by hand.
CREATE OR REPLACE FUNCTION check_api_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT key_is_live(OLD.revoked_at, OLD.expires_at, clock_timestamp()) THEN
        PERFORM raise_violation('api_keys_dead_stays_dead', 'a dead key cannot be changed');
    END IF;
    IF (NEW.account_id, NEW.key_id, NEW.tenant_id, NEW.key_hash, NEW.hint, NEW.created_at,
        NEW.rotated_from, NEW.spends_as)
        IS DISTINCT FROM
        (OLD.account_id, OLD.key_id, OLD.tenant_id, OLD.key_hash, OLD.hint, OLD.created_at,
        OLD.rotated_from, OLD.spends_as)
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

CREATE OR REPLACE TRIGGER api_keys_change BEFORE UPDATE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION check_api_key_change();
