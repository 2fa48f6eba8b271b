-- Notifies all nodes when the status of a tenant or one of its plans changes, which affects all of its keys. As a
-- trigger it also covers changes by hand.
CREATE OR REPLACE FUNCTION tell_nodes_of_tenant() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_change(
        p_kind => 'tenant', p_node => NULL, p_number => 0, p_tenant => NEW.tenant_id, p_tags => '{}');
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER tenants_tell_nodes AFTER UPDATE OF status ON tenants
    FOR EACH ROW WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION tell_nodes_of_tenant();
CREATE OR REPLACE TRIGGER plans_tell_nodes AFTER UPDATE ON plans
    FOR EACH ROW WHEN (NEW.* IS DISTINCT FROM OLD.*) EXECUTE FUNCTION tell_nodes_of_tenant();
