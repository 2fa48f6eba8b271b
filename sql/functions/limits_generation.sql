-- The number of changes to the settings of a rate limit. p_owner is the key, the account or the tenant that has
-- the limit. For the limit of a tenant, p_account is the tenant too.
--
-- The planner inlines this function.
CREATE OR REPLACE FUNCTION limits_generation(p_tenant uuid, p_account uuid, p_owner uuid)
RETURNS TABLE (generation bigint)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT coalesce(
        (SELECT a.plan_generation + p.limits_generation
                + CASE WHEN p_owner = a.account_id THEN a.limits_generation
                       ELSE coalesce((SELECT k.limits_generation FROM api_keys k
                                      WHERE k.account_id = p_account AND k.key_id = p_owner), 0) END
         FROM accounts a JOIN plans p ON p.tenant_id = a.tenant_id AND p.name = a.plan
         WHERE a.account_id = p_account),
        (SELECT t.limits_generation FROM tenant_limits t WHERE t.tenant_id = p_tenant), 0);
END;
