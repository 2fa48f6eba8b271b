-- Returns the outcome if a hold cannot be captured or voided, or if it has already been captured or voided.
-- Returns NULL if the operation is possible now. p_operation.amount is the amount to capture. The planner
-- inlines this function.
CREATE OR REPLACE FUNCTION ledger_hold_refusal(
    p_place bigint, p_operation ledger_operation, p_hold holds
) RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_hold.status IS NULL THEN ledger_outcome(
            place => p_place, result => 'not_found', replayed => false,
            cause_id => p_operation.hold_id)
        WHEN p_operation.kind = 'void' AND p_hold.status = 'voided'
            OR p_operation.kind = 'capture' AND p_hold.captured = p_operation.amount
        THEN ledger_outcome(
            place => p_place, result => p_hold.status, replayed => true,
            cause_id => p_operation.hold_id)
        WHEN p_hold.status <> 'open' THEN ledger_outcome(
            place => p_place, result => 'hold_not_open', replayed => false,
            cause_id => p_operation.hold_id, reason => p_hold.status)
        WHEN p_operation.amount > p_hold.amount THEN ledger_outcome(
            place => p_place, result => 'hold_too_small', replayed => false,
            cause_id => p_operation.hold_id, available => p_hold.amount)
    END
$$;
