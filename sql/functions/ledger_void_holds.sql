-- Voids those of an account's holds that are open, and releases their amounts. Returns the ids of the voided
-- holds and the sum of their amounts. Holds that have expired become expired instead.
--
-- Everything that changes a hold locks the account first, then keys, then holds: batches, the revocation of
-- a key, and this function. So a capture either comes first, or finds the hold voided, and nothing
-- deadlocks. The program takes the lock before; the function takes it as well, for changes by hand.
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
