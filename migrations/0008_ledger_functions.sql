-- The functions that decide on money. A later migration may replace them: what they take and what
-- they give stands in the two types.

CREATE TYPE ledger_operation AS (
    account_id      uuid,
    kind            text,
    id              uuid,
    key_id          uuid,
    request_id      uuid,
    amount          bigint,
    reference       text,
    description     text,
    metadata        text,
    idempotency_key text,
    fingerprint     bytea,
    hold_id         uuid,
    expires_in      integer
);

COMMENT ON TYPE ledger_operation IS
    'purchase: id, amount, reference, description, metadata. hold: id, amount, reference, '
    'expires_in (seconds). capture: id (of the purchase), hold_id, amount (NULL: all), metadata. '
    'void: hold_id. Each has key_id and request_id; the first two may have an idempotency_key '
    'with its fingerprint.';

CREATE TYPE ledger_outcome AS (
    place         bigint,
    result        text,
    replayed      boolean,
    seq           bigint,
    balance_after bigint,
    decided_at    timestamptz,
    cause_id      uuid,
    required      bigint,
    available     bigint,
    spend_limit   bigint,
    spend_period  text,
    decided_for   uuid,
    reason        text
);

COMMENT ON TYPE ledger_outcome IS
    'result: purchased, held, captured, voided: done; without decided_at it was done before, and '
    'cause_id is to be read. insufficient_balance, spend_limit_exceeded: declined for the request '
    'decided_for. key_denied (reason: revoked, expired, disabled, account_suspended), scope_lost, '
    'not_found, idempotency_mismatch, hold_not_open (reason: its status), hold_too_small '
    '(available: its amount), hold_limit_reached: refused, and nothing is recorded. busy: the '
    'account is locked. fenced: a later attempt came first.';

-- The clock by which money is decided.
CREATE FUNCTION ledger_now() RETURNS timestamptz
LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- What is left of the limits of keys, in their order; NULL: no limit. Open holds count as spent.
CREATE FUNCTION ledger_left(
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
    LEFT JOIN api_key_spend s ON s.account_id = p_account_id AND s.key_id = k.spender
    LEFT JOIN held ON held.spender = k.spender
$$;

-- Applies a batch of one account in its order, and gives an outcome for each operation. Every
-- statement after the first sees what was committed while the first waited for the lock.
--
-- p_attempt counts how often the batch was sent. From the second time on it finds what an earlier
-- attempt has done, and keeps an earlier one that comes late from doing anything.
--
-- The settings keep every plan on the account's indexes, also one made while the tables were empty.
CREATE FUNCTION ledger_apply(
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
            INSERT INTO api_key_spend AS s
            SELECT p_account_id, spender, v_day, sum(spent), date_trunc('month', v_day), sum(spent),
                   sum(spent)
            FROM unnest(v_spenders, v_spent) AS k (spender, spent) WHERE spent > 0 GROUP BY spender
            ON CONFLICT (account_id, key_id) DO UPDATE SET
                day = excluded.day,
                day_spent = CASE s.day WHEN excluded.day THEN s.day_spent ELSE 0 END
                    + excluded.day_spent,
                month = excluded.month,
                month_spent = CASE s.month WHEN excluded.month THEN s.month_spent ELSE 0 END
                    + excluded.month_spent,
                total_spent = s.total_spent + excluded.total_spent
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
CREATE FUNCTION ledger_apply_all(
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
    v_accounts accounts[];
    v_fences   boolean;
    v_done     boolean[];
    v_rest     record;
    v_outcome  ledger_outcome;
BEGIN
    IF p_attempt = 1 AND NOT p_wait THEN
        SELECT array_agg(a) INTO v_accounts
        FROM (SELECT DISTINCT account_id FROM unnest(p_operations)) AS o
        CROSS JOIN LATERAL (
            SELECT * FROM accounts WHERE account_id = o.account_id FOR NO KEY UPDATE SKIP LOCKED
        ) AS a;
        v_now := ledger_now();
        -- There is hardly ever any.
        v_fences := EXISTS (SELECT FROM ledger_fences);
        FOR v_outcome IN
            WITH asked AS MATERIALIZED (
                SELECT o.*, a.last_seq, greatest(v_now, a.last_entry_at) AS at, a.balance,
                       coalesce(k.spends_as, k.key_id) AS spender,
                       row_number() OVER places AS number, sum(o.amount) OVER places AS spent,
                       a.balance - a.held - sum(o.amount) OVER (PARTITION BY o.account_id) >= 0
                       AND bool_and(
                           k.key_id IS NOT NULL AND o.kind = 'purchase'
                           AND k.revoked_at IS NULL AND k.enabled
                           AND (k.expires_at IS NULL OR k.expires_at > v_now)
                           AND k.scopes && '{write,purchases:write}' AND k.spend_limit IS NULL
                           AND a.status = 'active' AND r.account_id IS NULL AND f.account_id IS NULL
                           AND NOT o.is_repeated
                       ) OVER (PARTITION BY o.account_id) AS plain
                FROM (SELECT *, count(idempotency_key) OVER (
                                    PARTITION BY account_id, idempotency_key) > 1 AS is_repeated
                      FROM unnest(p_operations) WITH ORDINALITY AS o) AS o
                JOIN unnest(v_accounts) AS a ON a.account_id = o.account_id
                LEFT JOIN LATERAL (
                    SELECT * FROM api_keys
                    WHERE account_id = o.account_id AND key_id = o.key_id LIMIT 1) AS k ON true
                LEFT JOIN LATERAL (
                    SELECT account_id FROM idempotency_records WHERE account_id = o.account_id
                        AND operation = o.kind AND idempotency_key = o.idempotency_key LIMIT 1
                ) AS r ON o.idempotency_key IS NOT NULL
                LEFT JOIN LATERAL (
                    SELECT account_id FROM ledger_fences
                    WHERE account_id = o.account_id AND batch_id = p_batch_id LIMIT 1
                ) AS f ON v_fences
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
            ), counted AS (
                INSERT INTO api_key_spend AS s
                SELECT account_id, spender, (max(at) AT TIME ZONE 'UTC')::date, sum(amount),
                       date_trunc('month', max(at) AT TIME ZONE 'UTC'), sum(amount), sum(amount)
                FROM plain GROUP BY account_id, spender
                ON CONFLICT (account_id, key_id) DO UPDATE SET
                    day = excluded.day,
                    day_spent = CASE s.day WHEN excluded.day THEN s.day_spent ELSE 0 END
                        + excluded.day_spent,
                    month = excluded.month,
                    month_spent = CASE s.month WHEN excluded.month THEN s.month_spent ELSE 0 END
                        + excluded.month_spent,
                    total_spent = s.total_spent + excluded.total_spent
            ), moved AS (
                UPDATE accounts SET balance = newest.balance_after, last_seq = newest.seq,
                                    last_entry_at = newest.at
                FROM (SELECT DISTINCT ON (account_id) account_id, seq, balance_after, at
                      FROM plain ORDER BY account_id, seq DESC) AS newest
                WHERE accounts.account_id = newest.account_id
            )
            SELECT ordinality, 'purchased', false, seq, balance_after, at, NULL, NULL, NULL, NULL, NULL,
                   NULL, NULL
            FROM plain
        LOOP
            RETURN NEXT v_outcome;
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

-- What open holds of an account reserve now. accounts.held has those in it that are due, until
-- somebody releases them.
CREATE FUNCTION ledger_held(p_account_id uuid, p_held bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE p_held WHEN 0 THEN 0 ELSE p_held - (
        SELECT coalesce(sum(amount), 0)::bigint FROM holds
        WHERE account_id = p_account_id AND status = 'open'
          AND expires_at <= (SELECT ledger_now())) END
$$;

-- The seq of the last entry of an account before a moment; 0: there is none. Time follows seq.
CREATE FUNCTION ledger_seq_before(p_account_id uuid, p_moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low    bigint := 0;
    v_high   bigint;
    v_middle bigint;
BEGIN
    SELECT last_seq INTO v_high FROM accounts WHERE account_id = p_account_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high + 1) / 2;
        IF (SELECT created_at < p_moment FROM ledger_entries
            WHERE account_id = p_account_id AND seq = v_middle)
        THEN
            v_low := v_middle;
        ELSE
            v_high := v_middle - 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;

-- Entries of an account with seq above p_after and not above p_last, in either direction; with
-- p_key_id or p_kind those alone. A branch for each index that can serve: few entries of a kind are
-- found among many of another.
CREATE FUNCTION ledger_statement(
    p_account_id uuid, p_after bigint, p_last bigint, p_key_id uuid, p_kind text,
    p_ascending boolean, p_limit bigint
) RETURNS TABLE (
    seq bigint, kind text, amount bigint, balance_after bigint, cause_id uuid, key_id uuid,
    admin_key_id uuid, reference text, created_at timestamptz
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
AS $$
#variable_conflict use_column
DECLARE
    v_seqs bigint[];
    -- 1: oldest first.
    v_sign integer := CASE WHEN p_ascending THEN 1 ELSE -1 END;
BEGIN
    IF p_key_id IS NOT NULL AND p_kind IS DISTINCT FROM 'purchase' AND p_kind IS NOT NULL THEN
        RETURN;
    ELSIF p_key_id IS NOT NULL AND p_ascending THEN
        v_seqs := ARRAY(SELECT p.seq FROM purchases p WHERE p.account_id = p_account_id
            AND p.key_id = p_key_id AND p.seq > p_after AND p.seq <= p_last
            ORDER BY p.seq LIMIT p_limit);
    ELSIF p_key_id IS NOT NULL THEN
        v_seqs := ARRAY(SELECT p.seq FROM purchases p WHERE p.account_id = p_account_id
            AND p.key_id = p_key_id AND p.seq > p_after AND p.seq <= p_last
            ORDER BY p.seq DESC LIMIT p_limit);
    ELSIF p_kind <> 'purchase' AND p_ascending THEN
        v_seqs := ARRAY(SELECT e.seq FROM ledger_entries e WHERE e.account_id = p_account_id
            AND e.kind = p_kind AND e.kind <> 'purchase' AND e.seq > p_after AND e.seq <= p_last
            ORDER BY e.seq LIMIT p_limit);
    ELSIF p_kind <> 'purchase' THEN
        v_seqs := ARRAY(SELECT e.seq FROM ledger_entries e WHERE e.account_id = p_account_id
            AND e.kind = p_kind AND e.kind <> 'purchase' AND e.seq > p_after AND e.seq <= p_last
            ORDER BY e.seq DESC LIMIT p_limit);
    ELSIF p_ascending THEN
        v_seqs := ARRAY(SELECT e.seq FROM ledger_entries e WHERE e.account_id = p_account_id
            AND (p_kind IS NULL OR e.kind = p_kind) AND e.seq > p_after AND e.seq <= p_last
            ORDER BY e.seq LIMIT p_limit);
    ELSE
        v_seqs := ARRAY(SELECT e.seq FROM ledger_entries e WHERE e.account_id = p_account_id
            AND (p_kind IS NULL OR e.kind = p_kind) AND e.seq > p_after AND e.seq <= p_last
            ORDER BY e.seq DESC LIMIT p_limit);
    END IF;
    RETURN QUERY
        SELECT e.seq, e.kind, e.amount, e.balance_after, e.cause_id, e.key_id, e.admin_key_id,
               coalesce(p.reference, c.reference, r.reference), e.created_at
        FROM ledger_entries e
        LEFT JOIN purchases p ON e.kind = 'purchase'
            AND p.account_id = p_account_id AND p.purchase_id = e.cause_id
        LEFT JOIN credits c ON e.kind = 'credit'
            AND c.account_id = p_account_id AND c.credit_id = e.cause_id
        LEFT JOIN refunds r ON e.kind = 'refund'
            AND r.account_id = p_account_id AND r.refund_id = e.cause_id
        WHERE e.account_id = p_account_id AND e.seq = ANY (v_seqs)
        ORDER BY e.seq * v_sign;
END
$$;

-- What is wrong with the money of the accounts from p_first to p_last, beside the chains of their
-- entries: nothing that is held, bought, given back or remembered may stand alone. What belongs to a
-- row is looked up by its primary key, whatever is known of the tables: what a planner thinks of a
-- ledger that has just grown would take hours.
CREATE FUNCTION ledger_faults(p_first uuid, p_last uuid)
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
    SELECT s.account_id, format('key %s has bought for %s, not for %s', s.key_id, sum(s.bought),
                                sum(s.counted))
    FROM (SELECT p.account_id, coalesce((
                     SELECT coalesce(k.spends_as, k.key_id) FROM api_keys k
                     WHERE k.account_id = p.account_id AND k.key_id = p.key_id), p.key_id) AS key_id,
                 p.amount AS bought, 0 AS counted
          FROM (SELECT account_id, key_id, sum(amount) AS amount FROM purchases
                WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, key_id) AS p
          UNION ALL
          SELECT account_id, key_id, 0, total_spent FROM api_key_spend
          WHERE account_id BETWEEN p_first AND p_last) AS s
    GROUP BY s.account_id, s.key_id HAVING sum(s.bought) <> sum(s.counted)
    UNION ALL
    SELECT p.account_id, format('%s purchases are of key %s, which the account does not have',
                                p.number, p.key_id)
    FROM (SELECT account_id, key_id, count(*) AS number FROM purchases
          WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, key_id) AS p
    WHERE NOT EXISTS (
        SELECT FROM api_keys k WHERE k.account_id = p.account_id AND k.key_id = p.key_id)
$$;
