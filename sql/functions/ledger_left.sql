-- Returns the unspent part of the spend limit of each key, in the order of the arguments, or NULL for a key
-- without a limit. Open holds count as spent. The function is written in plpgsql, which caches the plan,
-- because planning the query in every transaction would double the cost of a small batch.
CREATE OR REPLACE FUNCTION ledger_left(
    p_account_id uuid, p_day date, p_spenders uuid[], p_limits bigint[], p_periods text[]
) RETURNS numeric[]
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN (
        WITH held AS (
            SELECT coalesce(o.spends_as, o.key_id) AS spender, sum(h.amount) AS amount
            FROM holds h JOIN api_keys o ON o.account_id = p_account_id AND o.key_id = h.key_id
            WHERE h.account_id = p_account_id AND h.status = 'open'
              AND h.expires_at > (SELECT ledger_now())
            GROUP BY 1)
        SELECT array_agg(k.spend_limit - coalesce(held.amount, 0) - coalesce(CASE k.period
                WHEN 'day' THEN CASE s.day WHEN p_day THEN s.day_spent END
                WHEN 'month' THEN CASE s.month WHEN date_trunc('month', p_day)::date
                    THEN s.month_spent END
                ELSE s.total_spent END, 0) ORDER BY k.ordinality)
        FROM unnest(p_spenders, p_limits, p_periods)
            WITH ORDINALITY AS k (spender, spend_limit, period, ordinality)
        LEFT JOIN spend_counters s ON s.account_id = p_account_id AND s.key_id = k.spender
        LEFT JOIN held ON held.spender = k.spender);
END
$$;
