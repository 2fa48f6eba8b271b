-- Returns the idempotency record of a declined operation. p_seq and p_held are the account's values at that
-- time. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_decline_record(
    p_operation ledger_operation, p_outcome ledger_outcome, p_now timestamptz, p_seq bigint,
    p_held bigint
) RETURNS ledger_decline_record
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- In the order of the type's fields.
    SELECT ROW(p_operation.kind, p_operation.idempotency_key, p_operation.fingerprint,
               p_outcome.required, p_outcome.available, p_operation.request_id, p_now, p_seq, p_held,
               p_outcome.spend_limit, p_outcome.spend_period)::ledger_decline_record
$$;
