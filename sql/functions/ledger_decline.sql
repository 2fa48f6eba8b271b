-- Returns the outcome of an operation that is declined because only p_available is left of the spend limit
-- of p_limited_by, or of the balance if p_limited_by is NULL. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_decline(
    p_place bigint, p_operation ledger_operation, p_available bigint, p_limited_by ledger_key
) RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ledger_outcome(
        place => p_place,
        result => CASE WHEN p_limited_by.spend_limit IS NULL
            THEN 'insufficient_balance' ELSE 'spend_limit_exceeded' END,
        replayed => false, required => p_operation.amount, available => p_available,
        spend_limit => p_limited_by.spend_limit, spend_period => p_limited_by.spend_period,
        decided_for => p_operation.request_id)
$$;
