-- Checks that the new plan of an account exists, and keeps both plans from being deleted or getting other rate limits
-- until the transaction ends. So the generation of the account's limits increases with each change of its plan, and
-- no node uses a share that it was given under another plan. As a trigger it also runs for changes by hand.
CREATE OR REPLACE FUNCTION change_plan_of_account() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    v_plan       text;
    v_generation bigint;
    v_old        bigint;
BEGIN
    -- All transactions lock plans in the same order.
    FOR v_plan, v_generation IN
        SELECT name, limits_generation FROM plans
        WHERE tenant_id = NEW.tenant_id AND name IN (OLD.plan, NEW.plan)
        ORDER BY name FOR SHARE
    LOOP
        IF v_plan = OLD.plan THEN
            v_old := v_generation;
        END IF;
    END LOOP;
    IF v_old IS NULL OR NOT EXISTS (SELECT FROM plans WHERE tenant_id = NEW.tenant_id AND name = NEW.plan) THEN
        PERFORM raise_violation('accounts_plan', format('the tenant has no plan %s', NEW.plan));
    END IF;
    NEW.plan_generation := OLD.plan_generation + v_old + 1;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER accounts_change_plan BEFORE UPDATE OF plan ON accounts
    FOR EACH ROW WHEN (NEW.plan <> OLD.plan) EXECUTE FUNCTION change_plan_of_account();
