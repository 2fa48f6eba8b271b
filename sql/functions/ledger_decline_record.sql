-- The idempotency record of a declined operation. p_seq and p_held are the account's at that time. The
-- planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_decline_record(
    p_operation ledger_operation, p_outcome ledger_outcome, p_now timestamptz, p_seq bigint,
    p_held bigint
) RETURNS idempotency_records
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT idempotency_record(
        account_id => p_operation.account_id, operation => p_operation.kind,
        idempotency_key => p_operation.idempotency_key, fingerprint => p_operation.fingerprint,
        required => p_outcome.required, available => p_outcome.available,
        request_id => p_operation.request_id, created_at => p_now, seq => p_seq, held => p_held,
        spend_limit => p_outcome.spend_limit, spend_period => p_outcome.spend_period)
$$;
