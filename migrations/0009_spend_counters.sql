-- What keys have spent is counted for those alone that have, or had, a limit: a row of its own beside
-- every purchase of everybody was a tenth of what a purchase costs. The table has a new name, so that
-- no batch that is under way while this is applied writes into it by the old rules. No limit is set
-- meanwhile either.
LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE;
ALTER TABLE api_key_spend RENAME TO spend_counters;
ALTER TABLE spend_counters RENAME CONSTRAINT api_key_spend_pkey TO spend_counters_pkey;
ALTER TABLE spend_counters
    DROP CONSTRAINT api_key_spend_periods,
    ADD CONSTRAINT spend_counters_periods CHECK (
        0 <= day_spent AND day_spent <= month_spent AND month_spent <= total_spent);

COMMENT ON TABLE spend_counters IS
    'What keys with a limit have bought: one row for all that spend as the same key. Refunds do not '
    'count. Where there is a row, it is complete; where there is none, nobody has a limit.';
COMMENT ON COLUMN spend_counters.day IS
    'The day of UTC that was counted in last, and what was spent in it.';
COMMENT ON COLUMN spend_counters.month IS 'The first day of the month that was counted in last.';

DELETE FROM spend_counters s WHERE NOT EXISTS (
    SELECT FROM api_keys k
    WHERE k.account_id = s.account_id AND coalesce(k.spends_as, k.key_id) = s.key_id
      AND k.spend_limit IS NOT NULL);
INSERT INTO spend_counters
SELECT DISTINCT account_id, coalesce(spends_as, key_id), (now() AT TIME ZONE 'UTC')::date, 0,
       date_trunc('month', now() AT TIME ZONE 'UTC')::date, 0, 0
FROM api_keys WHERE spend_limit IS NOT NULL
ON CONFLICT DO NOTHING;

-- The first limit of keys that spend together: from here on it is counted what they spend, beginning
-- with what they have bought, as of the newest entry. No purchase of the account can come in between.
-- Who sets a limit by SQL locks the account first, as the program does: it is locked here all the same.
CREATE FUNCTION begin_counting_spend() RETURNS trigger
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_spender uuid := coalesce(NEW.spends_as, NEW.key_id);
    v_at      timestamp;
    v_day     bigint;
    v_month   bigint;
BEGIN
    SELECT coalesce(last_entry_at, ledger_now()) AT TIME ZONE 'UTC' INTO v_at
    FROM accounts WHERE account_id = NEW.account_id FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM spend_counters
               WHERE account_id = NEW.account_id AND key_id = v_spender) THEN
        RETURN NULL;
    END IF;
    v_day := ledger_seq_before(
        NEW.account_id, date_trunc('day', v_at) AT TIME ZONE 'UTC');
    v_month := ledger_seq_before(
        NEW.account_id, date_trunc('month', v_at) AT TIME ZONE 'UTC');
    INSERT INTO spend_counters
    SELECT NEW.account_id, v_spender, v_at::date,
           coalesce(sum(p.amount) FILTER (WHERE p.seq > v_day), 0), date_trunc('month', v_at),
           coalesce(sum(p.amount) FILTER (WHERE p.seq > v_month), 0), coalesce(sum(p.amount), 0)
    FROM api_keys k JOIN purchases p ON p.account_id = NEW.account_id AND p.key_id = k.key_id
    WHERE k.account_id = NEW.account_id AND coalesce(k.spends_as, k.key_id) = v_spender;
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_spend_limit AFTER INSERT OR UPDATE OF spend_limit ON api_keys
    FOR EACH ROW WHEN (NEW.spend_limit IS NOT NULL) EXECUTE FUNCTION begin_counting_spend();

-- What is left of the limits of keys, in their order; NULL: no limit. Open holds count as spent.
CREATE OR REPLACE FUNCTION ledger_left(
    p_account_id uuid, p_day date, p_spenders uuid[], p_limits bigint[], p_periods text[]
) RETURNS numeric[]
LANGUAGE sql STABLE AS $$
    WITH held AS (
        SELECT coalesce(o.spends_as, o.key_id) AS spender, sum(h.amount) AS amount
        FROM holds h JOIN api_keys o ON o.account_id = p_account_id AND o.key_id = h.key_id
        WHERE h.account_id = p_account_id AND h.status = 'open'
          AND h.expires_at > (SELECT ledger_now())
        GROUP BY 1)
    SELECT array_agg(k.spend_limit - coalesce(held.amount, 0) - coalesce(CASE k.period
            WHEN 'day' THEN CASE s.day WHEN p_day THEN s.day_spent END
            WHEN 'month' THEN CASE s.month WHEN date_trunc('month', p_day)::date THEN s.month_spent END
            ELSE s.total_spent END, 0) ORDER BY k.ordinality)
    FROM unnest(p_spenders, p_limits, p_periods)
        WITH ORDINALITY AS k (spender, spend_limit, period, ordinality)
    LEFT JOIN spend_counters s ON s.account_id = p_account_id AND s.key_id = k.spender
    LEFT JOIN held ON held.spender = k.spender
$$;

-- Applies a batch of one account in its order, and gives an outcome for each operation. Every
-- statement after the first sees what was committed while the first waited for the lock.
--
-- p_attempt counts how often the batch was sent. From the second time on it finds what an earlier
-- attempt has done, and keeps an earlier one that comes late from doing anything.
--
-- The settings keep every plan on the account's indexes, also one made while the tables were empty.
CREATE OR REPLACE FUNCTION ledger_apply(
    p_account_id uuid, p_batch_id uuid, p_attempt integer, p_wait boolean,
    p_operations ledger_operation[]
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
    c_open_holds CONSTANT integer := 1000;
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
    -- The keys that ask: what they spend as, why they may not, their limits, what is left of them.
    v_key        integer;
    v_keys       uuid[];
    v_spenders   uuid[];
    v_denials    text[];
    v_limits     bigint[];
    v_periods    text[];
    v_left       numeric[];
    v_spent      bigint[];
    -- What was decided for an idempotency key, and the first operation in the batch that has it.
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

    -- All that is to be known of most batches, in one statement. The keys are the account's own.
    SELECT (SELECT attempt FROM ledger_fences
            WHERE account_id = p_account_id AND batch_id = p_batch_id),
           (SELECT count(idempotency_key) FROM unnest(p_operations)),
           array_agg(key_id), array_agg(coalesce(spends_as, key_id)),
           array_agg(CASE
               WHEN revoked_at IS NOT NULL THEN 'revoked'
               WHEN expires_at <= v_now THEN 'expired'
               WHEN NOT enabled THEN 'disabled'
               WHEN v_account.status <> 'active' THEN 'account_suspended'
               WHEN NOT scopes && '{write,purchases:write}' THEN 'scope_lost' END),
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
        INSERT INTO ledger_fences VALUES (p_account_id, p_batch_id, p_attempt, v_now)
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
            -- What an earlier attempt did stands, whatever became of the key since.
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
            IF v_holds >= c_open_holds THEN
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

        -- Done from here on is what is new: it is weighed, and takes its effect.
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
        INSERT INTO idempotency_records SELECT * FROM unnest(v_new);
    END IF;
    RETURN QUERY SELECT * FROM unnest(v_outcomes);
END
$$;

-- Applies batches of several accounts in one transaction. An account that has nothing but
-- purchases that pass is done along with all others like it: each statement is begun once, which
-- is most of what a small batch costs. Every other one is given to ledger_apply. An outcome's place
-- is that of its operation.
--
-- With p_wait it waits for each account's lock; an account that is locked is busy otherwise.
CREATE OR REPLACE FUNCTION ledger_apply_all(
    p_batch_id uuid, p_attempt integer, p_wait boolean, p_operations ledger_operation[]
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
    v_now      timestamptz;
    -- The accounts of the batch, and their rows, which are locked, so that they stay in their
    -- places; NULL where somebody else has the lock, or there is no such account.
    v_ids      uuid[];
    v_accounts accounts[];
    v_rows     tid[];
    v_apart    uuid[];
    v_outcomes ledger_outcome[];
    v_done     boolean[];
    v_rest     record;
    v_outcome  ledger_outcome;
BEGIN
    IF p_attempt = 1 AND NOT p_wait THEN
        SELECT array_agg(o.account_id), array_agg(a.account), array_agg(a.ctid)
        INTO v_ids, v_accounts, v_rows
        FROM (SELECT DISTINCT account_id FROM unnest(p_operations)) AS o
        LEFT JOIN LATERAL (
            SELECT accounts AS account, ctid FROM accounts WHERE account_id = o.account_id
            FOR NO KEY UPDATE SKIP LOCKED
        ) AS a ON true;
        v_now := ledger_now();
        -- With a key that is there twice, or a later attempt of this batch: hardly ever any.
        v_apart := ARRAY(
            SELECT account_id FROM unnest(p_operations) WHERE idempotency_key IS NOT NULL
            GROUP BY account_id, kind, idempotency_key HAVING count(*) > 1);
        IF EXISTS (SELECT FROM ledger_fences) THEN
            v_apart := v_apart || ARRAY(
                SELECT id FROM unnest(v_ids) AS id CROSS JOIN LATERAL (
                    SELECT FROM ledger_fences
                    WHERE account_id = id AND batch_id = p_batch_id LIMIT 1) AS f);
        END IF;
        WITH asked AS MATERIALIZED (
            SELECT o.*, a.last_seq, greatest(v_now, a.last_entry_at) AS at, a.balance,
                   row_number() OVER places AS number, sum(o.amount) OVER places AS spent,
                   a.balance - a.held - sum(o.amount) OVER (PARTITION BY o.account_id) >= 0
                   AND bool_and(
                       k.key_id IS NOT NULL AND o.kind = 'purchase'
                       AND k.revoked_at IS NULL AND k.enabled
                       AND (k.expires_at IS NULL OR k.expires_at > v_now)
                       AND k.scopes && '{write,purchases:write}' AND k.spend_limit IS NULL
                       AND a.status = 'active' AND r.account_id IS NULL
                       AND s.account_id IS NULL AND o.account_id <> ALL (v_apart)
                   ) OVER (PARTITION BY o.account_id) AS plain
            FROM (SELECT *, array_position(v_ids, account_id) AS account
                  FROM unnest(p_operations) WITH ORDINALITY) AS o
            CROSS JOIN LATERAL (SELECT
                (v_accounts[o.account]).last_seq, (v_accounts[o.account]).last_entry_at,
                (v_accounts[o.account]).balance, (v_accounts[o.account]).held,
                (v_accounts[o.account]).status) AS a
            LEFT JOIN LATERAL (
                SELECT * FROM api_keys
                WHERE account_id = o.account_id AND key_id = o.key_id LIMIT 1) AS k ON true
            LEFT JOIN LATERAL (
                SELECT account_id FROM spend_counters WHERE account_id = o.account_id
                    AND key_id = coalesce(k.spends_as, k.key_id) LIMIT 1) AS s ON true
            LEFT JOIN LATERAL (
                SELECT account_id FROM idempotency_records WHERE account_id = o.account_id
                    AND operation = o.kind AND idempotency_key = o.idempotency_key LIMIT 1
            ) AS r ON o.idempotency_key IS NOT NULL
            WINDOW places AS (PARTITION BY o.account_id ORDER BY o.ordinality)
        ), plain AS MATERIALIZED (
            SELECT *, last_seq + number AS seq, (balance - spent)::bigint AS balance_after
            FROM asked WHERE plain
        ), entries AS (
            INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                        key_id, created_at)
            SELECT account_id, seq, kind, -amount, balance_after, id, key_id, at FROM plain
        ), bought AS (
            INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference,
                                   description, metadata, created_at)
            SELECT account_id, id, seq, key_id, amount, reference, description, metadata::json,
                   at
            FROM plain
        ), recorded AS (
            INSERT INTO idempotency_records (account_id, operation, idempotency_key,
                                             fingerprint, cause_id, request_id, created_at)
            SELECT account_id, kind, idempotency_key, fingerprint, id, request_id, v_now
            FROM plain WHERE idempotency_key IS NOT NULL
        ), moved AS (
            UPDATE accounts SET balance = newest.balance_after, last_seq = newest.seq,
                                last_entry_at = newest.at
            FROM (SELECT DISTINCT ON (account_id) account, seq, balance_after, at
                  FROM plain ORDER BY account_id, seq DESC) AS newest
            WHERE accounts.ctid = v_rows[newest.account]
        )
        SELECT array_agg((ordinality, 'purchased', false, seq, balance_after, at, NULL, NULL,
                          NULL, NULL, NULL, NULL, NULL)::ledger_outcome)
        INTO v_outcomes FROM plain;
        RETURN QUERY SELECT * FROM unnest(v_outcomes);
        IF cardinality(v_outcomes) = cardinality(p_operations) THEN
            RETURN;
        END IF;
        FOREACH v_outcome IN ARRAY coalesce(v_outcomes, '{}') LOOP
            v_done[v_outcome.place] := true;
        END LOOP;
    END IF;
    FOR v_rest IN
        SELECT p_operations[place].account_id, array_agg(place ORDER BY place) AS places,
               array_agg(p_operations[place] ORDER BY place) AS operations
        FROM generate_subscripts(p_operations, 1) AS place
        WHERE v_done[place] IS NULL GROUP BY 1 ORDER BY 1
    LOOP
        FOR v_outcome IN
            SELECT * FROM ledger_apply(
                v_rest.account_id, p_batch_id, p_attempt, p_wait, v_rest.operations)
        LOOP
            v_outcome.place := v_rest.places[v_outcome.place];
            RETURN NEXT v_outcome;
        END LOOP;
    END LOOP;
END
$$;

-- What is wrong with the money of the accounts from p_first to p_last, beside the chains of their
-- entries: nothing that is held, bought, given back or remembered may stand alone. What belongs to a
-- row is looked up by its primary key, whatever is known of the tables: what a planner thinks of a
-- ledger that has just grown would take hours.
CREATE OR REPLACE FUNCTION ledger_faults(p_first uuid, p_last uuid)
RETURNS TABLE (account_id uuid, fault text)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET jit = off
AS $$
    SELECT a.account_id, format('held is %s, the open holds come to %s', a.held, h.amount)
    FROM accounts a CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount), 0) AS amount FROM holds
        WHERE account_id = a.account_id AND status = 'open') AS h
    WHERE a.account_id BETWEEN p_first AND p_last AND a.held <> h.amount
    UNION ALL
    SELECT p.account_id, format('purchase %s has no entry at seq %s', p.purchase_id, p.seq)
    FROM purchases p
    WHERE p.account_id BETWEEN p_first AND p_last AND (
        SELECT (e.cause_id, e.kind) = (p.purchase_id, 'purchase') FROM ledger_entries e
        WHERE e.account_id = p.account_id AND e.seq = p.seq) IS NOT TRUE
    UNION ALL
    SELECT c.account_id, format('credit %s has no entry at seq %s', c.credit_id, c.seq)
    FROM credits c
    WHERE c.account_id BETWEEN p_first AND p_last AND (
        SELECT (e.cause_id, e.kind) = (c.credit_id, 'credit') FROM ledger_entries e
        WHERE e.account_id = c.account_id AND e.seq = c.seq) IS NOT TRUE
    UNION ALL
    SELECT r.account_id, format('refund %s has no entry at seq %s', r.refund_id, r.seq)
    FROM refunds r
    WHERE r.account_id BETWEEN p_first AND p_last AND (
        SELECT (e.cause_id, e.kind) = (r.refund_id, 'refund') FROM ledger_entries e
        WHERE e.account_id = r.account_id AND e.seq = r.seq) IS NOT TRUE
    UNION ALL
    SELECT r.account_id, format('%s was given back of purchase %s, which was %s',
                                r.amount, r.purchase_id, p.amount)
    FROM (SELECT account_id, purchase_id, sum(amount) AS amount FROM refunds
          WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, purchase_id) AS r
    CROSS JOIN LATERAL (
        SELECT max(amount) AS amount FROM purchases
        WHERE account_id = r.account_id AND purchase_id = r.purchase_id) AS p
    WHERE (r.amount <= p.amount) IS NOT TRUE
    UNION ALL
    SELECT h.account_id, format('hold %s was captured, but its purchase is another', h.hold_id)
    FROM holds h
    WHERE h.account_id BETWEEN p_first AND p_last AND h.status = 'captured' AND (
        SELECT (p.hold_id, p.amount) = (h.hold_id, h.captured) FROM purchases p
        WHERE p.account_id = h.account_id AND p.purchase_id = h.purchase_id) IS NOT TRUE
    UNION ALL
    SELECT p.account_id, format('purchase %s is of a hold that was not captured for it', p.purchase_id)
    FROM purchases p
    WHERE p.account_id BETWEEN p_first AND p_last AND p.hold_id IS NOT NULL AND (
        SELECT h.purchase_id = p.purchase_id FROM holds h
        WHERE h.account_id = p.account_id AND h.hold_id = p.hold_id) IS NOT TRUE
    UNION ALL
    SELECT i.account_id, format('idempotency key %s of a %s: what it made is not there',
                                i.idempotency_key, i.operation)
    FROM idempotency_records i
    WHERE i.account_id BETWEEN p_first AND p_last AND i.cause_id IS NOT NULL AND CASE i.operation
        WHEN 'purchase' THEN (SELECT seq FROM purchases p
            WHERE p.account_id = i.account_id AND p.purchase_id = i.cause_id)
        WHEN 'credit' THEN (SELECT seq FROM credits c
            WHERE c.account_id = i.account_id AND c.credit_id = i.cause_id)
        WHEN 'refund' THEN (SELECT seq FROM refunds r
            WHERE r.account_id = i.account_id AND r.refund_id = i.cause_id)
        ELSE (SELECT amount FROM holds h
            WHERE h.account_id = i.account_id AND h.hold_id = i.cause_id) END IS NULL
    UNION ALL
    SELECT i.account_id, format('idempotency key %s of a %s was declined for %s of %s, which was not so',
                                i.idempotency_key, i.operation, i.required, i.available)
    FROM idempotency_records i
    WHERE i.account_id BETWEEN p_first AND p_last AND i.cause_id IS NULL AND i.spend_limit IS NULL
        AND i.seq IS NOT NULL AND i.available <> coalesce((
            SELECT e.balance_after FROM ledger_entries e
            WHERE e.account_id = i.account_id AND e.seq = i.seq), 0) - i.held
    UNION ALL
    SELECT s.account_id, format('key %s has bought for %s, not for %s', s.key_id, p.amount,
                                s.total_spent)
    FROM spend_counters s CROSS JOIN LATERAL (
        SELECT coalesce(sum(p.amount), 0) AS amount
        FROM api_keys k JOIN purchases p ON p.account_id = k.account_id AND p.key_id = k.key_id
        WHERE k.account_id = s.account_id AND coalesce(k.spends_as, k.key_id) = s.key_id) AS p
    WHERE s.account_id BETWEEN p_first AND p_last AND s.total_spent <> p.amount
    UNION ALL
    SELECT k.account_id, format('key %s has a limit, and nothing counts what it spends', k.key_id)
    FROM api_keys k
    WHERE k.account_id BETWEEN p_first AND p_last AND k.spend_limit IS NOT NULL AND (
        SELECT s.day FROM spend_counters s
        WHERE s.account_id = k.account_id AND s.key_id = coalesce(k.spends_as, k.key_id)) IS NULL
    UNION ALL
    SELECT p.account_id, format('%s purchases are of key %s, which the account does not have',
                                p.number, p.key_id)
    FROM (SELECT account_id, key_id, count(*) AS number FROM purchases
          WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, key_id) AS p
    WHERE NOT EXISTS (
        SELECT FROM api_keys k WHERE k.account_id = p.account_id AND k.key_id = p.key_id)
$$;
