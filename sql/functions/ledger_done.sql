-- Returns the outcome of an operation that is done. p_seq and p_balance are the account's values after the
-- operation. The outcome contains them if the operation has written a ledger entry. The planner inlines
-- this function.
CREATE OR REPLACE FUNCTION ledger_done(
    p_place bigint, p_kind text, p_at timestamptz, p_seq bigint, p_balance bigint
) RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ledger_outcome(
        place => p_place, result => ledger_result(p_kind), replayed => false, decided_at => p_at,
        seq => CASE WHEN p_kind IN ('purchase', 'capture') THEN p_seq END,
        balance_after => CASE WHEN p_kind IN ('purchase', 'capture') THEN p_balance END)
$$;
