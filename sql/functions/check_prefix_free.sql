-- Refuses a tenant whose key prefix is the start of another tenant's prefix, or the other way round.
CREATE OR REPLACE FUNCTION check_prefix_free() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- Without the lock, two transactions that insert colliding prefixes concurrently would both pass the
    -- check.
    LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (
        SELECT FROM tenants t
        WHERE starts_with(t.prefix, NEW.prefix) OR starts_with(NEW.prefix, t.prefix)
    ) THEN
        PERFORM raise_violation(
            'tenants_prefix', format('prefix %s collides with the prefix of another tenant', NEW.prefix));
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER tenants_prefix_free BEFORE INSERT ON tenants
    FOR EACH ROW EXECUTE FUNCTION check_prefix_free();
