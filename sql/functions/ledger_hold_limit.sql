-- Returns the outcome of a hold that is refused because its key or its account has the maximum number of
-- open holds. Returns NULL if the hold is allowed. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_hold_limit(p_place bigint, p_key_is_full boolean, p_account_is_full boolean)
RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_key_is_full OR p_account_is_full THEN ledger_outcome(
            place => p_place, result => 'hold_limit_reached', replayed => false,
            reason => CASE WHEN p_key_is_full THEN 'key' ELSE 'account' END)
    END
$$;
