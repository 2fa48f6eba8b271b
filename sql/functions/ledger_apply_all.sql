-- Applies operations of several accounts in one transaction. Accounts whose operations are all accepted
-- purchases are applied together. Each statement then starts only once for all of them. This matters
-- because starting statements is most of the cost of a small batch. Every other account is applied
-- separately. ledger_apply describes the arguments and settings. The place of an outcome is the place of
-- its operation.
CREATE OR REPLACE FUNCTION ledger_apply_all(
    p_batch_id uuid, p_attempt integer, p_wait boolean, p_operations ledger_operation[],
    p_open_holds integer, p_key_holds integer, p_purchase_scopes text[]
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
    -- The accounts of the batch, their rows, and the places of the rows. A row that is locked keeps its
    -- ctid. A row is NULL if another transaction has locked it, or if the account does not exist.
    v_ids      uuid[];
    v_accounts accounts[];
    v_rows     tid[];
    v_now      timestamptz;
    v_apart    uuid[];
    v_outcomes ledger_outcome[];
    v_outcome  ledger_outcome;
    v_done     boolean[];
    v_rest     record;
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
        -- Accounts with a repeated idempotency key, or with a later attempt of this batch. Both are rare.
        v_apart := ARRAY(
            SELECT account_id FROM unnest(p_operations) WHERE idempotency_key IS NOT NULL
            GROUP BY account_id, kind, idempotency_key HAVING count(*) > 1);
        IF EXISTS (SELECT FROM ledger_fences) THEN
            v_apart := v_apart || ARRAY(
                SELECT id FROM unnest(v_ids) AS id CROSS JOIN LATERAL (
                    SELECT FROM ledger_fences
                    WHERE account_id = id AND batch_id = p_batch_id LIMIT 1) AS f);
        END IF;
        v_outcomes := ledger_apply_purchases(
            p_operations => p_operations, p_now => v_now, p_ids => v_ids, p_accounts => v_accounts,
            p_rows => v_rows, p_apart => v_apart, p_purchase_scopes => p_purchase_scopes);
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
        v_outcomes := ledger_apply_account(
            p_account_id => v_rest.account_id, p_batch_id => p_batch_id, p_attempt => p_attempt,
            p_wait => p_wait, p_operations => v_rest.operations, p_open_holds => p_open_holds,
            p_key_holds => p_key_holds, p_purchase_scopes => p_purchase_scopes);
        FOREACH v_outcome IN ARRAY v_outcomes LOOP
            v_outcome.place := v_rest.places[v_outcome.place];
            RETURN NEXT v_outcome;
        END LOOP;
    END LOOP;
END
$$;
