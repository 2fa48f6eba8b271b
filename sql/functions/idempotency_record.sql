-- Builds a row of idempotency_records from named arguments. The planner inlines this function.
CREATE OR REPLACE FUNCTION idempotency_record(
    account_id      uuid DEFAULT NULL,
    operation       text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    fingerprint     bytea DEFAULT NULL,
    cause_id        uuid DEFAULT NULL,
    required        bigint DEFAULT NULL,
    available       bigint DEFAULT NULL,
    request_id      uuid DEFAULT NULL,
    created_at      timestamptz DEFAULT NULL,
    seq             bigint DEFAULT NULL,
    held            bigint DEFAULT NULL,
    spend_limit     bigint DEFAULT NULL,
    spend_period    text DEFAULT NULL
) RETURNS idempotency_records
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- In the order of the table's columns.
    SELECT ROW(account_id, operation, idempotency_key, fingerprint, cause_id, required, available,
               request_id, created_at, seq, held, spend_limit, spend_period)::idempotency_records
$$;
