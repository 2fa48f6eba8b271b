-- Applies a batch of one account in four phases: lock and load, replay, decide, write. ledger_apply
-- describes the arguments.
--
-- The first statement locks the account. Every later statement sees what was committed before the lock
-- was granted.
CREATE OR REPLACE FUNCTION ledger_apply_account(
    p_account_id uuid, p_batch_id uuid, p_attempt integer, p_wait boolean,
    p_operations ledger_operation[], p_open_holds integer, p_key_holds integer,
    p_purchase_scopes text[]
) RETURNS ledger_outcome[]
LANGUAGE plpgsql AS $$
DECLARE
    v_account accounts;
    v_held    bigint;
    v_now     timestamptz;
    v_at      timestamptz;
    v_load    record;
    v_firsts  bigint[];
    v_left    numeric[];
    v_settled ledger_outcome[];
    v_decided record;
BEGIN
    IF p_wait THEN
        SELECT * INTO v_account FROM accounts WHERE account_id = p_account_id FOR NO KEY UPDATE;
    ELSE
        SELECT * INTO v_account
        FROM accounts WHERE account_id = p_account_id FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN
        PERFORM FROM accounts WHERE account_id = p_account_id;
        RETURN ledger_same_outcomes(
            CASE WHEN FOUND THEN 'busy' ELSE 'not_found' END, cardinality(p_operations));
    END IF;
    v_held := v_account.held;
    v_now := ledger_now();
    v_at := greatest(v_now, v_account.last_entry_at);

    -- One statement loads everything that most batches need. It finds only keys of this account.
    SELECT (SELECT attempt FROM ledger_fences
            WHERE account_id = p_account_id AND batch_id = p_batch_id) AS fence,
           (SELECT count(idempotency_key) FROM unnest(p_operations)) AS with_key,
           EXISTS (SELECT FROM spend_counters WHERE account_id = p_account_id) AS counted,
           count(spend_limit) AS limited, array_agg(key_id) AS key_ids,
           array_agg(ledger_key(
               key_id => key_id, spends_as => coalesce(spends_as, key_id),
               denial => coalesce(
                   key_denial(revoked_at, expires_at, enabled, v_account.status, v_now,
                              (SELECT status FROM tenants WHERE tenant_id = v_account.tenant_id)),
                   CASE WHEN NOT scopes && p_purchase_scopes THEN 'scope_lost' END),
               spend_limit => spend_limit, spend_period => spend_period)) AS keys
    INTO v_load
    FROM api_keys
    WHERE account_id = p_account_id
      AND key_id = ANY (ARRAY(SELECT key_id FROM unnest(p_operations)));
    IF v_load.fence >= p_attempt THEN
        RETURN ledger_same_outcomes('fenced', cardinality(p_operations));
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
        SELECT v_held - coalesce(sum(amount), 0) INTO v_account.held FROM released;
    END IF;
    IF v_load.limited > 0 THEN
        SELECT ledger_left(p_account_id, (v_at AT TIME ZONE 'UTC')::date, array_agg(k.spends_as),
                           array_agg(k.spend_limit), array_agg(k.spend_period))
        INTO v_left FROM unnest(v_load.keys) AS k;
    END IF;

    IF p_attempt > 1 OR v_load.with_key > 0 THEN
        v_settled := ledger_replay(
            p_account_id => p_account_id, p_attempt => p_attempt, p_operations => p_operations,
            p_keys => v_load.keys, p_with_key => v_load.with_key);
    END IF;
    IF v_load.with_key > 1 THEN
        SELECT array_agg(first ORDER BY ordinality) INTO v_firsts
        FROM (SELECT ordinality, min(ordinality) OVER (PARTITION BY kind, idempotency_key) AS first
              FROM unnest(p_operations) WITH ORDINALITY) AS o;
    END IF;
    v_decided := ledger_decide(
        p_account => v_account, p_now => v_now, p_at => v_at, p_operations => p_operations,
        p_settled => v_settled, p_key_ids => v_load.key_ids, p_keys => v_load.keys,
        p_left => v_left, p_firsts => v_firsts, p_open_holds => p_open_holds,
        p_key_holds => p_key_holds);
    v_account.held := v_held;
    RETURN ledger_write(
        p_account => v_account, p_now => v_now, p_at => v_at,
        p_operations => coalesce(v_decided.operations, p_operations),
        p_outcomes => v_decided.outcomes, p_declined => v_decided.declined, p_keys => v_load.keys,
        p_with_key => v_load.with_key, p_counted => v_load.counted,
        p_balance => v_decided.balance, p_held => v_decided.held, p_seq => v_decided.last_seq);
END
$$;
