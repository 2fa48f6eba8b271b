-- Decides the operations of a batch that are not in p_settled, in order, and opens and closes their holds.
-- p_left is the unspent part of the spend limit of each of p_keys, or NULL if no key has a limit. For each
-- operation, p_firsts contains the place of the first operation with the same idempotency key. It is NULL
-- if no key can be repeated. Returns the arguments of ledger_write: outcomes by place, the operations (NULL
-- if no capture or void has completed one), declined idempotency keys, and the account's new balance, held
-- and last_seq.
CREATE OR REPLACE FUNCTION ledger_decide(
    p_account accounts, p_now timestamptz, p_at timestamptz, p_operations ledger_operation[],
    p_settled ledger_outcome[], p_key_ids uuid[], p_keys ledger_key[], p_left numeric[],
    p_firsts bigint[], p_open_holds integer, p_key_holds integer, OUT outcomes ledger_outcome[],
    OUT operations ledger_operation[], OUT declined ledger_decline_record[],
    OUT balance bigint, OUT held bigint, OUT last_seq bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    v_operation ledger_operation;
    v_outcome   ledger_outcome;
    v_completed boolean;
    v_hold      holds;
    -- The result of ledger_open_holds, which is called before the first hold of the batch.
    v_open      bigint[];
    -- The chain of rotated keys toward which the hold's spending counts, and the chains of p_keys.
    v_hold_as   uuid;
    v_key       integer;
    v_spenders  uuid[];
    -- The operation that has used an idempotency key, by the place of the first operation with that key.
    v_users     integer[];
    v_user      integer;
BEGIN
    balance := p_account.balance;
    held := p_account.held;
    last_seq := p_account.last_seq;
    IF p_left IS NOT NULL THEN
        SELECT array_agg(spends_as) INTO v_spenders FROM unnest(p_keys);
    END IF;
    FOR v_index IN 1 .. cardinality(p_operations) LOOP
        v_operation := p_operations[v_index];
        v_outcome := p_settled[v_index];
        v_key := array_position(p_key_ids, v_operation.key_id);
        v_user := v_users[p_firsts[v_index]];
        IF v_outcome.place IS NOT NULL THEN
            NULL;
        ELSIF v_key IS NULL OR (p_keys[v_key]).denial IS NOT NULL THEN
            v_outcome := ledger_key_refusal(v_index, p_keys[v_key]);
        ELSIF v_user IS NOT NULL THEN
            v_outcome := ledger_repeat(
                v_index, v_operation, p_operations[v_user], outcomes[v_user]);
        ELSIF v_operation.kind = 'hold' THEN
            v_open := coalesce(v_open, ledger_open_holds(p_account.account_id, p_key_ids));
            v_outcome := ledger_hold_limit(
                v_index, v_open[v_key + 1] >= p_key_holds, v_open[1] >= p_open_holds);
        ELSIF v_operation.kind <> 'purchase' THEN
            SELECT * INTO v_hold FROM holds
            WHERE account_id = p_account.account_id AND hold_id = v_operation.hold_id;
            SELECT coalesce(spends_as, key_id) INTO v_hold_as
            FROM api_keys WHERE account_id = p_account.account_id AND key_id = v_hold.key_id;
            v_operation.amount := coalesce(v_operation.amount, v_hold.amount);
            v_outcome := ledger_hold_refusal(v_index, v_operation, v_hold);
        END IF;
        IF v_outcome.place IS NOT NULL THEN
            outcomes[v_index] := v_outcome;
            CONTINUE;
        END IF;

        IF p_left[v_key] < v_operation.amount AND v_operation.kind <> 'void'
            AND NOT (v_operation.kind = 'capture' AND v_hold_as = v_spenders[v_key])
        THEN
            v_outcome := ledger_decline(
                v_index, v_operation, greatest(p_left[v_key], 0)::bigint, p_keys[v_key]);
        ELSIF v_operation.kind IN ('purchase', 'hold') AND v_operation.amount > balance - held THEN
            v_outcome := ledger_decline(v_index, v_operation, balance - held, NULL);
        ELSE
            IF v_operation.kind IN ('purchase', 'capture') THEN
                last_seq := last_seq + 1;
                balance := balance - v_operation.amount;
            END IF;
            v_outcome := ledger_done(v_index, v_operation.kind, p_at, last_seq, balance);
            IF v_operation.kind = 'hold' THEN
                held := held + v_operation.amount;
                v_open[1] := v_open[1] + 1;
                v_open[v_key + 1] := v_open[v_key + 1] + 1;
                INSERT INTO holds (account_id, hold_id, key_id, amount, reference, status,
                                   created_at, expires_at)
                VALUES (p_account.account_id, v_operation.id, v_operation.key_id, v_operation.amount,
                        v_operation.reference, 'open', p_at,
                        p_at + make_interval(secs => v_operation.expires_in));
            ELSIF v_operation.kind <> 'purchase' THEN
                held := held - v_hold.amount;
                UPDATE holds SET status = v_outcome.result, closed_at = p_now,
                    closed_by = v_operation.key_id, closed_for = v_operation.request_id,
                    void_reason = CASE v_operation.kind WHEN 'void' THEN 'api_key' END,
                    captured = CASE v_operation.kind WHEN 'capture' THEN v_operation.amount END,
                    purchase_id = CASE v_operation.kind WHEN 'capture' THEN v_operation.id END
                WHERE account_id = p_account.account_id AND hold_id = v_operation.hold_id;
                v_operation.reference := v_hold.reference;
                p_operations[v_index] := v_operation;
                v_completed := true;
            END IF;
            FOR i IN 1 .. coalesce(cardinality(p_left), 0) LOOP
                IF v_operation.kind IN ('capture', 'void') AND v_spenders[i] = v_hold_as THEN
                    p_left[i] := p_left[i] + v_hold.amount;
                END IF;
                IF v_operation.kind <> 'void' AND v_spenders[i] = v_spenders[v_key] THEN
                    p_left[i] := p_left[i] - v_operation.amount;
                END IF;
            END LOOP;
        END IF;
        outcomes[v_index] := v_outcome;
        IF v_operation.idempotency_key IS NOT NULL AND p_firsts IS NOT NULL THEN
            v_users[p_firsts[v_index]] := v_index;
        END IF;
        IF v_operation.idempotency_key IS NOT NULL AND v_outcome.decided_at IS NULL THEN
            declined := declined || ledger_decline_record(
                v_operation, v_outcome, p_now, last_seq, held);
        END IF;
    END LOOP;
    operations := CASE WHEN v_completed THEN p_operations END;
END
$$;
