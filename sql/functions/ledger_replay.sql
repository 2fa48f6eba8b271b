-- Outcomes of the operations of a batch that are known without a decision, by place; NULL for the rest.
-- The effect of an earlier attempt stands, even if the key was revoked since. Otherwise an operation
-- whose key does not pass is refused. Only then is the record of its idempotency key replayed.
--
-- p_with_key is the number of operations with an idempotency key. p_refused is false if all keys pass.
CREATE OR REPLACE FUNCTION ledger_replay(
    p_account_id uuid, p_attempt integer, p_operations ledger_operation[], p_keys ledger_key[],
    p_with_key bigint, p_refused boolean
) RETURNS ledger_outcome[]
LANGUAGE plpgsql AS $$
DECLARE
    v_settled ledger_outcome[];
    v_found   record;
BEGIN
    -- What counts more comes later, and replaces what was found before.
    IF p_with_key > 0 THEN
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
            WHERE o.idempotency_key IS NOT NULL
        LOOP
            v_settled[v_found.place] := v_found.outcome;
        END LOOP;
    END IF;
    IF p_refused IS NOT false THEN
        FOR v_found IN
            SELECT o.ordinality AS place, ledger_outcome(
                place => o.ordinality,
                result => CASE WHEN k.key_id IS NULL THEN 'not_found'
                               WHEN k.denial = 'scope_lost' THEN 'scope_lost'
                               ELSE 'key_denied' END,
                replayed => false, reason => nullif(k.denial, 'scope_lost')) AS outcome
            FROM unnest(p_operations) WITH ORDINALITY AS o
            LEFT JOIN unnest(p_keys) AS k ON k.key_id = o.key_id
            WHERE k.key_id IS NULL OR k.denial IS NOT NULL
        LOOP
            v_settled[v_found.place] := v_found.outcome;
        END LOOP;
    END IF;
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
