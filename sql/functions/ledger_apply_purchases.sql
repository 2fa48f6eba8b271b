-- Applies the operations of several accounts together, and returns their outcomes. It omits an account if
-- one of the account's operations is not an accepted purchase, or needs a replay or a spend counter. p_ids
-- are accounts, p_accounts are their locked rows, and p_rows are the ctids of these rows. The function also
-- omits the accounts in p_apart.
CREATE OR REPLACE FUNCTION ledger_apply_purchases(
    p_operations ledger_operation[], p_now timestamptz, p_ids uuid[], p_accounts accounts[],
    p_rows tid[], p_apart uuid[], p_purchase_scopes text[]
) RETURNS ledger_outcome[]
LANGUAGE plpgsql AS $$
DECLARE
    v_outcomes ledger_outcome[];
BEGIN
    -- One statement, because starting a statement is most of the cost of a small batch.
    WITH asked AS MATERIALIZED (
        SELECT o.account_id, o.id, o.key_id, o.request_id, o.kind, o.amount, o.reference,
               o.description, o.metadata, o.idempotency_key, o.fingerprint, o.ordinality, o.account,
               a.last_seq, greatest(p_now, a.last_entry_at) AS at, a.balance,
               row_number() OVER places AS number, sum(o.amount) OVER places AS spent,
               a.balance - a.held - sum(o.amount) OVER (PARTITION BY o.account_id) >= 0
               AND bool_and(
                   k.key_id IS NOT NULL AND o.kind = 'purchase'
                   AND key_denial(k.revoked_at, k.expires_at, k.enabled, a.status, p_now,
                                  t.status) IS NULL
                   AND k.scopes && p_purchase_scopes AND k.spend_limit IS NULL
                   AND r.account_id IS NULL AND s.account_id IS NULL
                   AND o.account_id <> ALL (p_apart)
               ) OVER (PARTITION BY o.account_id) AS passes
        FROM (SELECT account_id, id, key_id, request_id, kind, amount, reference, description,
                     metadata, idempotency_key, fingerprint, ordinality,
                     array_position(p_ids, account_id) AS account
              FROM unnest(p_operations) WITH ORDINALITY) AS o
        CROSS JOIN LATERAL (SELECT
            (p_accounts[o.account]).last_seq, (p_accounts[o.account]).last_entry_at,
            (p_accounts[o.account]).balance, (p_accounts[o.account]).held,
            (p_accounts[o.account]).status, (p_accounts[o.account]).tenant_id) AS a
        -- A lock on the tenant would be shared by all purchases, so its status is read without one.
        LEFT JOIN LATERAL (SELECT status FROM tenants WHERE tenant_id = a.tenant_id LIMIT 1) AS t ON true
        LEFT JOIN LATERAL (
            SELECT key_id, spends_as, revoked_at, expires_at, enabled, scopes, spend_limit
            FROM api_keys WHERE account_id = o.account_id AND key_id = o.key_id LIMIT 1
        ) AS k ON true
        LEFT JOIN LATERAL (
            SELECT account_id FROM spend_counters WHERE account_id = o.account_id
                AND key_id = coalesce(k.spends_as, k.key_id) LIMIT 1) AS s ON true
        LEFT JOIN LATERAL (
            SELECT account_id FROM idempotency_records WHERE account_id = o.account_id
                AND operation = o.kind AND idempotency_key = o.idempotency_key LIMIT 1
        ) AS r ON o.idempotency_key IS NOT NULL
        WINDOW places AS (PARTITION BY o.account_id ORDER BY o.ordinality)
    ), bought AS MATERIALIZED (
        SELECT account_id, id, key_id, request_id, kind, amount, reference, description, metadata,
               idempotency_key, fingerprint, ordinality, account, at, last_seq + number AS seq,
               (balance - spent)::bigint AS balance_after
        FROM asked WHERE passes
    ), entries AS (
        INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id, key_id,
                                    created_at)
        SELECT account_id, seq, kind, -amount, balance_after, id, key_id, at FROM bought
    ), purchased AS (
        INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference, description,
                               metadata, created_at)
        SELECT account_id, id, seq, key_id, amount, reference, description, metadata::json, at
        FROM bought
    ), recorded AS (
        INSERT INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
                                         cause_id, request_id, created_at)
        SELECT account_id, kind, idempotency_key, fingerprint, id, request_id, p_now
        FROM bought WHERE idempotency_key IS NOT NULL
    ), moved AS (
        UPDATE accounts SET balance = newest.balance_after, last_seq = newest.seq,
                            last_entry_at = newest.at
        FROM (SELECT DISTINCT ON (account_id) account, seq, balance_after, at
              FROM bought ORDER BY account_id, seq DESC) AS newest
        WHERE accounts.ctid = p_rows[newest.account]
    )
    SELECT array_agg(ledger_outcome(
        place => ordinality, result => 'purchased', replayed => false, seq => seq,
        balance_after => balance_after, decided_at => at))
    INTO v_outcomes FROM bought;
    RETURN v_outcomes;
END
$$;
