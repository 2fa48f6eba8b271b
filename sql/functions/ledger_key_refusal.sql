-- Returns the outcome of an operation whose key is refused, or NULL if the key is accepted. p_key is NULL
-- if the account does not have the key. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_key_refusal(p_place bigint, p_key ledger_key)
RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_key.key_id IS NULL THEN ledger_outcome(
            place => p_place, result => 'not_found', replayed => false)
        WHEN p_key.denial = 'scope_lost' THEN ledger_outcome(
            place => p_place, result => 'scope_lost', replayed => false)
        WHEN p_key.denial IS NOT NULL THEN ledger_outcome(
            place => p_place, result => 'key_denied', replayed => false, reason => p_key.denial)
    END
$$;
