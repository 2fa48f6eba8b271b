-- Refuses to delete the plan default, or a plan that an account names. The deletion has locked the plan, so no account
-- can get it in the meantime. As a trigger it also runs for deletions by hand.
CREATE OR REPLACE FUNCTION check_plan_unused() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.name = 'default' OR EXISTS (
        SELECT FROM accounts
        WHERE tenant_id = OLD.tenant_id AND plan = OLD.name AND plan <> 'default')
    THEN
        PERFORM raise_violation('plans_in_use', format('the plan %s is in use', OLD.name));
    END IF;
    RETURN OLD;
END
$$;

CREATE OR REPLACE TRIGGER plans_unused BEFORE DELETE ON plans
    FOR EACH ROW EXECUTE FUNCTION check_plan_unused();
