CREATE OR REPLACE FUNCTION check_prefix_free() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- Two colliding prefixes that are inserted at the same time would not see each other.
    LOCK TABLE tenants IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (
        SELECT FROM tenants t
        WHERE starts_with(t.prefix, NEW.prefix) OR starts_with(NEW.prefix, t.prefix)
    ) THEN
        PERFORM raise_violation(
            'tenants_prefix', format('prefix %s collides with that of another tenant', NEW.prefix));
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER tenants_prefix_free BEFORE INSERT ON tenants
    FOR EACH ROW EXECUTE FUNCTION check_prefix_free();
