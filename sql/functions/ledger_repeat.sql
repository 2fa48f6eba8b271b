-- Returns the outcome of an operation whose idempotency key has already been used in the same batch. The
-- earlier operation is p_first, and its outcome is p_made. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_repeat(
    p_place bigint, p_operation ledger_operation, p_first ledger_operation, p_made ledger_outcome
) RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_first.fingerprint <> p_operation.fingerprint THEN ledger_outcome(
            place => p_place, result => 'idempotency_mismatch', replayed => false)
        ELSE ledger_outcome(
            place => p_place, result => p_made.result,
            replayed => p_first.request_id IS DISTINCT FROM p_operation.request_id,
            cause_id => CASE WHEN p_made.decided_at IS NOT NULL THEN p_first.id END,
            required => p_made.required, available => p_made.available,
            spend_limit => p_made.spend_limit, spend_period => p_made.spend_period,
            decided_for => p_first.request_id)
    END
$$;
