-- Counts the changes to rate limits, so that no node uses a share that it was given before a change. As a
-- trigger it also counts changes that are made by hand.
CREATE OR REPLACE FUNCTION raise_limits_generation() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.limits_generation := OLD.limits_generation + 1;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER accounts_limits_generation BEFORE UPDATE OF rate_limits ON accounts
    FOR EACH ROW WHEN (NEW.rate_limits IS DISTINCT FROM OLD.rate_limits)
    EXECUTE FUNCTION raise_limits_generation();
CREATE OR REPLACE TRIGGER api_keys_limits_generation
    BEFORE UPDATE OF rate_limits, owner_rate_limits ON api_keys FOR EACH ROW
    WHEN ((NEW.rate_limits, NEW.owner_rate_limits)
          IS DISTINCT FROM (OLD.rate_limits, OLD.owner_rate_limits))
    EXECUTE FUNCTION raise_limits_generation();
CREATE OR REPLACE TRIGGER plans_limits_generation
    BEFORE UPDATE OF key_rate_limits, account_rate_limits ON plans FOR EACH ROW
    WHEN ((NEW.key_rate_limits, NEW.account_rate_limits)
          IS DISTINCT FROM (OLD.key_rate_limits, OLD.account_rate_limits))
    EXECUTE FUNCTION raise_limits_generation();
CREATE OR REPLACE TRIGGER tenant_limits_generation BEFORE UPDATE ON tenant_limits
    FOR EACH ROW EXECUTE FUNCTION raise_limits_generation();
