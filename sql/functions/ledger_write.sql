-- Writes the decisions of ledger_decide for a batch: ledger entries, purchases, the account, spend counters
-- and idempotency records. The fields of p_operations and p_outcomes have different names, so that queries
-- can pair their elements by place.
--
-- p_account is the account before the batch. p_balance, p_held and p_seq are its new values. p_counted says
-- whether the account has spend counters. The function returns p_outcomes so that a caller can evaluate it
-- as an expression, which costs less than a PERFORM, because a PERFORM starts a statement.
CREATE OR REPLACE FUNCTION ledger_write(
    p_account accounts, p_now timestamptz, p_at timestamptz, p_operations ledger_operation[],
    p_outcomes ledger_outcome[], p_declined ledger_decline_record[], p_keys ledger_key[],
    p_with_key bigint, p_counted boolean, p_balance bigint, p_held bigint, p_seq bigint
) RETURNS ledger_outcome[]
LANGUAGE plpgsql AS $$
DECLARE
    v_day   date;
    v_month date;
BEGIN
    IF p_seq > p_account.last_seq THEN
        -- One statement, because starting a statement is most of the cost of a small batch.
        WITH bought AS MATERIALIZED (
            SELECT id, seq, key_id, amount, balance_after, reference, description, metadata, hold_id
            FROM ROWS FROM (unnest(p_operations), unnest(p_outcomes)) AS decided
            WHERE seq IS NOT NULL
        ), entries AS (
            INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                        key_id, created_at)
            SELECT p_account.account_id, seq, 'purchase', -amount, balance_after, id, key_id, p_at
            FROM bought
        ), purchased AS (
            INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference,
                                   description, metadata, created_at, hold_id)
            SELECT p_account.account_id, id, seq, key_id, amount, reference, description,
                   metadata::json, p_at, hold_id
            FROM bought
        )
        UPDATE accounts
        SET balance = p_balance, held = p_held, last_seq = p_seq, last_entry_at = p_at
        WHERE account_id = p_account.account_id;
        IF p_counted THEN
            v_day := (p_at AT TIME ZONE 'UTC')::date;
            v_month := date_trunc('month', v_day);
            UPDATE spend_counters AS s
            SET day = v_day,
                day_spent = CASE s.day WHEN v_day THEN s.day_spent ELSE 0 END + k.spent,
                month = v_month,
                month_spent = CASE s.month WHEN v_month THEN s.month_spent ELSE 0 END + k.spent,
                total_spent = s.total_spent + k.spent
            FROM (SELECT k.spends_as, sum(d.amount) AS spent
                  FROM ROWS FROM (unnest(p_operations), unnest(p_outcomes)) AS d
                  JOIN unnest(p_keys) AS k ON k.key_id = d.key_id
                  WHERE d.seq IS NOT NULL GROUP BY k.spends_as) AS k
            WHERE s.account_id = p_account.account_id AND s.key_id = k.spends_as;
        END IF;
    ELSIF p_held <> p_account.held THEN
        UPDATE accounts SET held = p_held WHERE account_id = p_account.account_id;
    END IF;
    IF p_with_key > 0 THEN
        INSERT INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
                                         cause_id, request_id, created_at)
        SELECT p_account.account_id, kind, idempotency_key, fingerprint, id, request_id, p_now
        FROM ROWS FROM (unnest(p_operations), unnest(p_outcomes)) AS decided
        WHERE idempotency_key IS NOT NULL AND decided_at IS NOT NULL;
    END IF;
    IF p_declined IS NOT NULL THEN
        INSERT INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
            required, available, request_id, created_at, seq, held, spend_limit, spend_period)
        SELECT p_account.account_id, operation, idempotency_key, fingerprint, required, available,
               request_id, created_at, seq, held, spend_limit, spend_period
        FROM unnest(p_declined);
    END IF;
    RETURN p_outcomes;
END
$$;
