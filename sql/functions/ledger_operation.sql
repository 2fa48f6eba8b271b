-- Builds a ledger_operation from named arguments. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_operation(
    account_id      uuid DEFAULT NULL,
    kind            text DEFAULT NULL,
    id              uuid DEFAULT NULL,
    key_id          uuid DEFAULT NULL,
    request_id      uuid DEFAULT NULL,
    amount          bigint DEFAULT NULL,
    reference       text DEFAULT NULL,
    description     text DEFAULT NULL,
    metadata        text DEFAULT NULL,
    idempotency_key text DEFAULT NULL,
    fingerprint     bytea DEFAULT NULL,
    hold_id         uuid DEFAULT NULL,
    expires_in      integer DEFAULT NULL
) RETURNS ledger_operation
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- In the order of the type's fields.
    SELECT ROW(account_id, kind, id, key_id, request_id, amount, reference, description, metadata,
               idempotency_key, fingerprint, hold_id, expires_in)::ledger_operation
$$;
