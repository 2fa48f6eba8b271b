-- Returns the outcomes of the operations of a batch that need no decision, by place, and NULL for the other
-- operations. The effect of an earlier attempt stands, even if the key has been revoked since. The record
-- of an idempotency key is replayed only if the operation's API key is accepted. p_with_key is the number
-- of operations with an idempotency key.
CREATE OR REPLACE FUNCTION ledger_replay(
    p_account_id uuid, p_attempt integer, p_operations ledger_operation[], p_keys ledger_key[],
    p_with_key bigint
) RETURNS ledger_outcome[]
LANGUAGE plpgsql AS $$
DECLARE
    v_settled ledger_outcome[];
    v_passing uuid[];
    v_found   record;
BEGIN
    IF p_with_key > 0 THEN
        v_passing := ARRAY(SELECT key_id FROM unnest(p_keys) WHERE denial IS NULL);
        FOR v_found IN
            SELECT o.ordinality AS place, CASE
                WHEN r.fingerprint <> o.fingerprint THEN ledger_outcome(
                    place => o.ordinality, result => 'idempotency_mismatch', replayed => false)
                ELSE ledger_outcome(
                    place => o.ordinality,
                    result => CASE WHEN r.spend_limit IS NOT NULL THEN 'spend_limit_exceeded'
                                   WHEN r.cause_id IS NULL THEN 'insufficient_balance'
                                   ELSE ledger_result(o.kind) END,
                    replayed => r.request_id IS DISTINCT FROM o.request_id,
                    cause_id => r.cause_id, required => r.required, available => r.available,
                    spend_limit => r.spend_limit, spend_period => r.spend_period,
                    decided_for => r.request_id) END AS outcome
            FROM unnest(p_operations) WITH ORDINALITY AS o
            CROSS JOIN LATERAL (
                SELECT fingerprint, cause_id, required, available, request_id, spend_limit,
                       spend_period
                FROM idempotency_records WHERE account_id = p_account_id
                    AND operation = o.kind AND idempotency_key = o.idempotency_key LIMIT 1) AS r
            WHERE o.idempotency_key IS NOT NULL AND o.key_id = ANY (v_passing)
        LOOP
            v_settled[v_found.place] := v_found.outcome;
        END LOOP;
    END IF;
    -- Effects of an earlier attempt replace outcomes from records.
    IF p_attempt > 1 THEN
        FOR v_found IN
            SELECT o.ordinality AS place, ledger_outcome(
                place => o.ordinality,
                result => ledger_result(o.kind), replayed => false,
                cause_id => coalesce(p.cause_id, h.cause_id)) AS outcome
            FROM unnest(p_operations) WITH ORDINALITY AS o
            LEFT JOIN LATERAL (
                SELECT coalesce(hold_id, purchase_id) AS cause_id FROM purchases
                WHERE account_id = p_account_id AND purchase_id = o.id LIMIT 1) AS p ON true
            LEFT JOIN LATERAL (
                SELECT hold_id AS cause_id FROM holds
                WHERE account_id = p_account_id AND hold_id = ANY (ARRAY[o.id, o.hold_id])
                    AND (hold_id = o.id OR closed_for = o.request_id) LIMIT 1
            ) AS h ON p.cause_id IS NULL
            WHERE coalesce(p.cause_id, h.cause_id) IS NOT NULL
        LOOP
            v_settled[v_found.place] := v_found.outcome;
        END LOOP;
    END IF;
    RETURN v_settled;
END
$$;
