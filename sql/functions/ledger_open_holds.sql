-- Returns the number of open holds of the account, followed by the number for each of p_key_ids, in their
-- order. The function is written in plpgsql, which caches the plan.
CREATE OR REPLACE FUNCTION ledger_open_holds(p_account_id uuid, p_key_ids uuid[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        WITH counted AS MATERIALIZED (
            SELECT key_id, count(*) AS number FROM holds
            WHERE account_id = p_account_id AND status = 'open' GROUP BY key_id)
        SELECT array_prepend(
            (SELECT coalesce(sum(number), 0)::bigint FROM counted),
            array_agg(coalesce(c.number, 0) ORDER BY k.ordinality))
        FROM unnest(p_key_ids) WITH ORDINALITY AS k (key_id, ordinality)
        LEFT JOIN counted c ON c.key_id = k.key_id);
END
$$;
