-- Creates the plan default of a new tenant. As a trigger it also runs for tenants that the previous version creates.
CREATE OR REPLACE FUNCTION create_default_plan() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO plans (tenant_id, name, max_keys, default_scopes, created_at)
    VALUES (NEW.tenant_id, 'default', NEW.max_keys, NEW.default_scopes, NEW.created_at);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER tenants_create_default_plan AFTER INSERT ON tenants
    FOR EACH ROW EXECUTE FUNCTION create_default_plan();
