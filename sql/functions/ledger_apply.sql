-- Applies a batch of operations of one account in order, and returns one outcome per operation. The
-- first statement locks the account; the later ones see everything that was committed before the lock
-- was granted.
--
-- p_attempt is 1 when the batch is sent for the first time, and higher for retries. A retry finds what an
-- earlier attempt has done, and keeps an earlier attempt that arrives late from doing anything.
--
-- p_open_holds is the maximum number of open holds of an account. A key needs one of p_purchase_scopes.
--
-- The settings keep every plan on the account's indexes, even a plan made while the tables were empty.
CREATE OR REPLACE FUNCTION ledger_apply(
    p_account_id uuid, p_batch_id uuid, p_attempt integer, p_wait boolean,
    p_operations ledger_operation[], p_open_holds integer, p_purchase_scopes text[]
) RETURNS SETOF ledger_outcome
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_account    record;
    v_now        timestamptz;
    v_at         timestamptz;
    v_day        date;
    v_fence      integer;
    v_with_key   integer;
    v_seq        bigint;
    v_balance    bigint;
    v_held       bigint;
    v_holds      bigint;
    v_index      integer;
    v_operation  ledger_operation;
    v_outcome    ledger_outcome;
    v_outcomes   ledger_outcome[] := '{}';
    -- The keys of the batch: the key they spend as, why they are denied, their limits, what is left.
    v_key        integer;
    v_keys       uuid[];
    v_spenders   uuid[];
    v_denials    text[];
    v_limits     bigint[];
    v_periods    text[];
    v_left       numeric[];
    v_spent      bigint[];
    -- Decisions for idempotency keys, and for each operation the first one with the same key.
    v_record     idempotency_records;
    v_records    idempotency_records[];
    v_new        idempotency_records[] := '{}';
    v_firsts     bigint[];
    v_hold       holds;
    v_spender    uuid;
    v_own        uuid;
    v_found      record;
BEGIN
    IF p_wait THEN
        SELECT balance, held, last_seq, last_entry_at, status INTO v_account
        FROM accounts WHERE account_id = p_account_id FOR NO KEY UPDATE;
    ELSE
        SELECT balance, held, last_seq, last_entry_at, status INTO v_account
        FROM accounts WHERE account_id = p_account_id FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN
        PERFORM FROM accounts WHERE account_id = p_account_id;
        v_outcome.result := CASE WHEN FOUND THEN 'busy' ELSE 'not_found' END;
        FOR v_index IN 1 .. cardinality(p_operations) LOOP
            v_outcome.place := v_index;
            RETURN NEXT v_outcome;
        END LOOP;
        RETURN;
    END IF;
    v_now := ledger_now();
    v_at := greatest(v_now, v_account.last_entry_at);
    v_day := (v_at AT TIME ZONE 'UTC')::date;
    v_seq := v_account.last_seq;
    v_balance := v_account.balance;
    v_held := v_account.held;

    -- One statement loads everything that most batches need. Only keys of this account are found.
    SELECT (SELECT attempt FROM ledger_fences
            WHERE account_id = p_account_id AND batch_id = p_batch_id),
           (SELECT count(idempotency_key) FROM unnest(p_operations)),
           array_agg(key_id), array_agg(coalesce(spends_as, key_id)),
           array_agg(coalesce(
               key_denial(revoked_at, expires_at, enabled, v_account.status, v_now),
               CASE WHEN NOT scopes && p_purchase_scopes THEN 'scope_lost' END)),
           array_agg(spend_limit), array_agg(spend_period), array_agg(0::bigint)
    INTO v_fence, v_with_key, v_keys, v_spenders, v_denials, v_limits, v_periods, v_spent
    FROM api_keys
    WHERE account_id = p_account_id
      AND key_id = ANY (ARRAY(SELECT key_id FROM unnest(p_operations)));
    IF v_fence >= p_attempt THEN
        v_outcome.result := 'fenced';
        FOR v_index IN 1 .. cardinality(p_operations) LOOP
            v_outcome.place := v_index;
            RETURN NEXT v_outcome;
        END LOOP;
        RETURN;
    END IF;
    IF p_attempt > 1 THEN
        DELETE FROM ledger_fences
        WHERE account_id = p_account_id AND created_at < v_now - interval '1 day';
        INSERT INTO ledger_fences (account_id, batch_id, attempt, created_at)
        VALUES (p_account_id, p_batch_id, p_attempt, v_now)
        ON CONFLICT (account_id, batch_id) DO UPDATE
            SET attempt = excluded.attempt, created_at = excluded.created_at;
    END IF;

    IF v_held > 0 THEN
        WITH released AS (
            UPDATE holds SET status = 'expired', closed_at = v_now
            WHERE account_id = p_account_id AND status = 'open' AND expires_at <= v_now
            RETURNING amount)
        SELECT v_held - coalesce(sum(amount), 0) INTO v_held FROM released;
    END IF;

    IF cardinality(array_remove(v_limits, NULL)) > 0 THEN
        v_left := ledger_left(p_account_id, v_day, v_spenders, v_limits, v_periods);
    END IF;

    IF v_with_key > 0 THEN
        FOR v_found IN
            SELECT o.ordinality, r FROM unnest(p_operations) WITH ORDINALITY AS o
            CROSS JOIN LATERAL (
                SELECT * FROM idempotency_records WHERE account_id = p_account_id
                    AND operation = o.kind AND idempotency_key = o.idempotency_key LIMIT 1) AS r
            WHERE o.idempotency_key IS NOT NULL
        LOOP
            v_records[v_found.ordinality] := v_found.r;
        END LOOP;
        SELECT array_agg(first ORDER BY ordinality) INTO v_firsts
        FROM (SELECT ordinality, min(ordinality) OVER (PARTITION BY kind, idempotency_key) AS first
              FROM unnest(p_operations) WITH ORDINALITY) AS o;
    END IF;

    FOR v_index IN 1 .. cardinality(p_operations) LOOP
        v_operation := p_operations[v_index];
        v_outcome := NULL;
        v_outcome.place := v_index;
        v_outcome.replayed := false;
        v_key := array_position(v_keys, v_operation.key_id);
        v_record := NULL;
        IF v_operation.idempotency_key IS NOT NULL THEN
            v_record := coalesce(v_records[v_index], v_records[v_firsts[v_index]]);
        END IF;
        v_own := NULL;
        IF p_attempt > 1 THEN
            -- The effect of an earlier attempt stands, even if the key was revoked since.
            SELECT coalesce(hold_id, purchase_id) INTO v_own FROM purchases
            WHERE account_id = p_account_id AND purchase_id = v_operation.id;
            IF v_own IS NULL THEN
                SELECT hold_id INTO v_own FROM holds
                WHERE account_id = p_account_id
                    AND hold_id = ANY (ARRAY[v_operation.id, v_operation.hold_id])
                    AND (hold_id = v_operation.id OR closed_for = v_operation.request_id);
            END IF;
        END IF;
        IF v_own IS NOT NULL THEN
            v_outcome.cause_id := v_own;
            v_outcome.result := CASE v_operation.kind WHEN 'purchase' THEN 'purchased'
                WHEN 'hold' THEN 'held' WHEN 'capture' THEN 'captured' ELSE 'voided' END;
        ELSIF v_key IS NULL THEN
            v_outcome.result := 'not_found';
        ELSIF v_denials[v_key] = 'scope_lost' THEN
            v_outcome.result := 'scope_lost';
        ELSIF v_denials[v_key] IS NOT NULL THEN
            v_outcome.result := 'key_denied';
            v_outcome.reason := v_denials[v_key];
        ELSIF v_record.fingerprint <> v_operation.fingerprint THEN
            v_outcome.result := 'idempotency_mismatch';
        ELSIF v_record.account_id IS NOT NULL THEN
            v_outcome := (v_index,
                CASE WHEN v_record.spend_limit IS NOT NULL THEN 'spend_limit_exceeded'
                     WHEN v_record.cause_id IS NULL THEN 'insufficient_balance'
                     WHEN v_operation.kind = 'hold' THEN 'held'
                     ELSE 'purchased' END,
                v_record.request_id IS DISTINCT FROM v_operation.request_id,
                NULL, NULL, NULL, v_record.cause_id, v_record.required, v_record.available,
                v_record.spend_limit, v_record.spend_period, v_record.request_id, NULL);
        ELSIF v_operation.kind = 'purchase' THEN
            v_outcome.result := 'purchased';
        ELSIF v_operation.kind = 'hold' THEN
            v_outcome.result := 'held';
            IF v_holds IS NULL THEN
                SELECT count(*) INTO v_holds
                FROM holds WHERE account_id = p_account_id AND status = 'open';
            END IF;
            IF v_holds >= p_open_holds THEN
                v_outcome.result := 'hold_limit_reached';
            END IF;
        ELSE
            SELECT * INTO v_hold
            FROM holds WHERE account_id = p_account_id AND hold_id = v_operation.hold_id;
            SELECT coalesce(spends_as, key_id) INTO v_spender
            FROM api_keys WHERE account_id = p_account_id AND key_id = v_hold.key_id;
            v_operation.amount := coalesce(v_operation.amount, v_hold.amount);
            v_outcome.cause_id := v_operation.hold_id;
            IF v_hold.status IS NULL THEN
                v_outcome.result := 'not_found';
            ELSIF v_operation.kind = 'void' AND v_hold.status = 'voided'
                OR v_operation.kind = 'capture' AND v_hold.captured = v_operation.amount
            THEN
                v_outcome.result := v_hold.status;
                v_outcome.replayed := true;
            ELSIF v_hold.status <> 'open' THEN
                v_outcome.result := 'hold_not_open';
                v_outcome.reason := v_hold.status;
            ELSIF v_operation.amount > v_hold.amount THEN
                v_outcome.result := 'hold_too_small';
                v_outcome.available := v_hold.amount;
            ELSE
                v_outcome.cause_id := NULL;
                v_outcome.result := CASE v_operation.kind WHEN 'void' THEN 'voided' ELSE 'captured' END;
            END IF;
        END IF;

        -- A new operation: check it against the limits and the balance, and apply it.
        IF v_outcome.cause_id IS NULL
            AND v_outcome.result IN ('purchased', 'held', 'captured', 'voided')
        THEN
            IF v_left[v_key] < v_operation.amount AND v_operation.kind <> 'void'
                AND NOT (v_operation.kind = 'capture' AND v_spender = v_spenders[v_key])
            THEN
                v_outcome := (v_index, 'spend_limit_exceeded', false, NULL, NULL, NULL, NULL,
                    v_operation.amount, greatest(v_left[v_key], 0)::bigint, v_limits[v_key],
                    v_periods[v_key], v_operation.request_id, NULL);
            ELSIF v_operation.kind IN ('purchase', 'hold') AND v_operation.amount > v_balance - v_held
            THEN
                v_outcome := (v_index, 'insufficient_balance', false, NULL, NULL, NULL, NULL,
                    v_operation.amount, v_balance - v_held, NULL, NULL, v_operation.request_id, NULL);
            ELSE
                v_outcome.decided_at := v_at;
                IF v_operation.kind IN ('capture', 'void') THEN
                    v_held := v_held - v_hold.amount;
                    UPDATE holds SET status = v_outcome.result, closed_at = v_now,
                        closed_by = v_operation.key_id, closed_for = v_operation.request_id,
                        captured = CASE v_operation.kind WHEN 'capture' THEN v_operation.amount END,
                        purchase_id = CASE v_operation.kind WHEN 'capture' THEN v_operation.id END
                    WHERE account_id = p_account_id AND hold_id = v_operation.hold_id;
                    FOR i IN 1 .. coalesce(cardinality(v_left), 0) LOOP
                        IF v_spenders[i] = v_spender THEN
                            v_left[i] := v_left[i] + v_hold.amount;
                        END IF;
                    END LOOP;
                    v_operation.reference := v_hold.reference;
                    p_operations[v_index] := v_operation;
                ELSIF v_operation.kind = 'hold' THEN
                    v_held := v_held + v_operation.amount;
                    v_holds := v_holds + 1;
                    INSERT INTO holds (account_id, hold_id, key_id, amount, reference, status,
                                       created_at, expires_at)
                    VALUES (p_account_id, v_operation.id, v_operation.key_id, v_operation.amount,
                            v_operation.reference, 'open', v_at,
                            v_at + make_interval(secs => v_operation.expires_in));
                END IF;
                IF v_operation.kind IN ('purchase', 'capture') THEN
                    v_seq := v_seq + 1;
                    v_balance := v_balance - v_operation.amount;
                    v_outcome.seq := v_seq;
                    v_outcome.balance_after := v_balance;
                    v_spent[v_key] := v_spent[v_key] + v_operation.amount;
                END IF;
                IF v_left IS NOT NULL AND v_operation.kind <> 'void' THEN
                    FOR i IN 1 .. cardinality(v_left) LOOP
                        IF v_spenders[i] = v_spenders[v_key] THEN
                            v_left[i] := v_left[i] - v_operation.amount;
                        END IF;
                    END LOOP;
                END IF;
            END IF;
            IF v_operation.idempotency_key IS NOT NULL THEN
                v_record := (p_account_id, v_operation.kind, v_operation.idempotency_key,
                    v_operation.fingerprint,
                    CASE WHEN v_outcome.decided_at IS NOT NULL THEN v_operation.id END,
                    v_outcome.required, v_outcome.available, v_operation.request_id, v_now,
                    CASE WHEN v_outcome.decided_at IS NULL THEN v_seq END,
                    CASE WHEN v_outcome.decided_at IS NULL THEN v_held END,
                    v_outcome.spend_limit, v_outcome.spend_period);
                v_records[v_firsts[v_index]] := v_record;
                v_new := v_new || v_record;
            END IF;
        END IF;
        v_outcomes[v_index] := v_outcome;
    END LOOP;

    IF v_seq > v_account.last_seq THEN
        WITH bought AS MATERIALIZED (
            SELECT * FROM ROWS FROM (unnest(p_operations), unnest(v_outcomes)) AS b (
                account_id, kind, id, key_id, request_id, amount, reference, description, metadata,
                idempotency_key, fingerprint, hold_id, expires_in, place, result, replayed, seq,
                balance_after)
            WHERE seq IS NOT NULL
        ), entries AS (
            INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                        key_id, created_at)
            SELECT p_account_id, seq, 'purchase', -amount, balance_after, id, key_id, v_at
            FROM bought
        ), purchased AS (
            INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference,
                                   description, metadata, created_at, hold_id)
            SELECT p_account_id, id, seq, key_id, amount, reference, description, metadata::json,
                   v_at, hold_id
            FROM bought
        ), counted AS (
            UPDATE spend_counters AS s
            SET day = v_day,
                day_spent = CASE s.day WHEN v_day THEN s.day_spent ELSE 0 END + k.spent,
                month = date_trunc('month', v_day),
                month_spent = CASE s.month WHEN date_trunc('month', v_day)::date
                    THEN s.month_spent ELSE 0 END + k.spent,
                total_spent = s.total_spent + k.spent
            FROM (SELECT spender, sum(spent) AS spent
                  FROM unnest(v_spenders, v_spent) AS k (spender, spent) GROUP BY spender) AS k
            WHERE s.account_id = p_account_id AND s.key_id = k.spender AND k.spent > 0
        )
        UPDATE accounts
        SET balance = v_balance, held = v_held, last_seq = v_seq, last_entry_at = v_at
        WHERE account_id = p_account_id;
    ELSIF v_held <> v_account.held THEN
        UPDATE accounts SET held = v_held WHERE account_id = p_account_id;
    END IF;
    IF v_new <> '{}' THEN
        INSERT INTO idempotency_records (
            account_id, operation, idempotency_key, fingerprint, cause_id, required, available,
            request_id, created_at, seq, held, spend_limit, spend_period)
        SELECT account_id, operation, idempotency_key, fingerprint, cause_id, required, available,
               request_id, created_at, seq, held, spend_limit, spend_period
        FROM unnest(v_new);
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_outcomes);
END
$$;
