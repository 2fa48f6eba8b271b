-- An admin key can be revoked once, and never changes after that. Its identity and its permissions never
-- change.
CREATE OR REPLACE FUNCTION check_admin_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL
        OR (NEW.admin_key_id, NEW.tenant_id, NEW.key_hash, NEW.permissions, NEW.created_at)
            IS DISTINCT FROM
            (OLD.admin_key_id, OLD.tenant_id, OLD.key_hash, OLD.permissions, OLD.created_at)
    THEN
        PERFORM raise_violation(
            'admin_keys_dead_stays_dead', 'an admin key changes only by being revoked, once');
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER admin_keys_change BEFORE UPDATE ON admin_keys
    FOR EACH ROW EXECUTE FUNCTION check_admin_key_change();
