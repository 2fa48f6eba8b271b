-- Voids the open holds among the given holds of an account, and releases their amounts. Returns the ids of
-- the voided holds and the sum of their amounts. Marks holds whose time has passed as expired instead of
-- voided.
--
-- Batches, revocations and this function all lock first the account, then keys, then holds. So a capture
-- either comes first or finds the hold voided, and there are no deadlocks. The program already holds the
-- account's lock when it calls this function. The function also takes the lock, for changes by hand.
CREATE OR REPLACE FUNCTION ledger_void_holds(
    p_account_id uuid, p_hold_ids uuid[], p_reason text, OUT hold_ids uuid[], OUT voided_amount bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM FROM accounts WHERE account_id = p_account_id FOR NO KEY UPDATE;
    v_now := ledger_now();
    WITH closed AS (
        UPDATE holds
        SET status = CASE WHEN expires_at <= v_now THEN 'expired' ELSE 'voided' END,
            void_reason = CASE WHEN expires_at > v_now THEN p_reason END, closed_at = v_now
        WHERE account_id = p_account_id AND hold_id = ANY (p_hold_ids) AND status = 'open'
        RETURNING hold_id, amount, status
    ), released AS (
        UPDATE accounts SET held = held - (SELECT sum(amount)::bigint FROM closed)
        WHERE account_id = p_account_id AND EXISTS (SELECT FROM closed)
    )
    SELECT coalesce(array_agg(hold_id ORDER BY hold_id), '{}'), coalesce(sum(amount), 0)::bigint
    INTO hold_ids, voided_amount FROM closed WHERE status = 'voided';
END
$$;
