-- Applies a batch of operations of one account in order, and returns one outcome per operation.
--
-- p_attempt is 1 when the batch is sent for the first time, and higher for retries. A retry finds the
-- effects of an earlier attempt, and prevents an earlier attempt that arrives late from having any effect.
-- If p_wait is false and another transaction has locked the account, every outcome is busy. p_open_holds and
-- p_key_holds are the maximum numbers of open holds of an account and of a key. A key needs one of
-- p_purchase_scopes.
--
-- The settings make every plan use the indexes that begin with the account, even a plan that was made while
-- the tables were empty. They also apply to the functions that this function calls.
CREATE OR REPLACE FUNCTION ledger_apply(
    p_account_id uuid, p_batch_id uuid, p_attempt integer, p_wait boolean,
    p_operations ledger_operation[], p_open_holds integer, p_key_holds integer,
    p_purchase_scopes text[]
) RETURNS SETOF ledger_outcome
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY SELECT * FROM unnest(ledger_apply_account(
        p_account_id => p_account_id, p_batch_id => p_batch_id, p_attempt => p_attempt,
        p_wait => p_wait, p_operations => p_operations, p_open_holds => p_open_holds,
        p_key_holds => p_key_holds, p_purchase_scopes => p_purchase_scopes));
END
$$;
