-- Applies batches of several accounts in one transaction. Accounts whose operations are all purchases
-- that pass are applied together: each statement then starts once for all of them, and starting
-- statements is most of the cost of a small batch. Every other account goes through ledger_apply. The
-- place of an outcome is the place of its operation.
--
-- With p_wait it waits for each account's lock. Otherwise the operations of a locked account are busy.
CREATE OR REPLACE FUNCTION ledger_apply_all(
    p_batch_id uuid, p_attempt integer, p_wait boolean, p_operations ledger_operation[],
    p_open_holds integer, p_purchase_scopes text[]
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
    -- The accounts of the batch and their rows. Locked rows keep their ctid. NULL: another transaction
    -- has the lock, or the account does not exist.
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
        -- Rare: accounts with a repeated idempotency key, or with a later attempt of this batch.
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
                       AND key_denial(k.revoked_at, k.expires_at, k.enabled, a.status, v_now) IS NULL
                       AND k.scopes && p_purchase_scopes AND k.spend_limit IS NULL
                       AND r.account_id IS NULL
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
                v_rest.account_id, p_batch_id, p_attempt, p_wait, v_rest.operations,
                p_open_holds, p_purchase_scopes)
        LOOP
            v_outcome.place := v_rest.places[v_outcome.place];
            RETURN NEXT v_outcome;
        END LOOP;
    END LOOP;
END
$$;
