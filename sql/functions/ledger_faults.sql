-- Returns inconsistencies in the money of the accounts from p_first to p_last. The program itself checks
-- the chains of their entries. Every captured hold, purchase, credit, refund and idempotency record must
-- have its counterpart. The settings make every lookup use an index, regardless of the statistics. If the
-- statistics are outdated because the ledger has just grown, other plans would take hours.
CREATE OR REPLACE FUNCTION ledger_faults(p_first uuid, p_last uuid)
RETURNS TABLE (account_id uuid, fault text)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET jit = off
AS $$
    SELECT a.account_id, format('held is %s, but the open holds sum to %s', a.held, h.amount)
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
    SELECT r.account_id, format('refunds of %s for purchase %s, whose amount is %s',
                                r.amount, r.purchase_id, p.amount)
    FROM (SELECT account_id, purchase_id, sum(amount) AS amount FROM refunds
          WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, purchase_id) AS r
    CROSS JOIN LATERAL (
        SELECT max(amount) AS amount FROM purchases
        WHERE account_id = r.account_id AND purchase_id = r.purchase_id) AS p
    WHERE (r.amount <= p.amount) IS NOT TRUE
    UNION ALL
    SELECT h.account_id, format('hold %s was captured, but its purchase does not match', h.hold_id)
    FROM holds h
    WHERE h.account_id BETWEEN p_first AND p_last AND h.status = 'captured' AND (
        SELECT (p.hold_id, p.amount) = (h.hold_id, h.captured) FROM purchases p
        WHERE p.account_id = h.account_id AND p.purchase_id = h.purchase_id) IS NOT TRUE
    UNION ALL
    SELECT p.account_id, format('purchase %s names a hold that was not captured for it', p.purchase_id)
    FROM purchases p
    WHERE p.account_id BETWEEN p_first AND p_last AND p.hold_id IS NOT NULL AND (
        SELECT h.purchase_id = p.purchase_id FROM holds h
        WHERE h.account_id = p.account_id AND h.hold_id = p.hold_id) IS NOT TRUE
    UNION ALL
    SELECT i.account_id, format('idempotency key %s of a %s names a result that does not exist',
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
    SELECT i.account_id, format('idempotency key %s of a %s was declined for %s with %s available, '
                                'which does not match the ledger',
                                i.idempotency_key, i.operation, i.required, i.available)
    FROM idempotency_records i
    WHERE i.account_id BETWEEN p_first AND p_last AND i.cause_id IS NULL AND i.spend_limit IS NULL
        AND i.seq IS NOT NULL AND i.available <> coalesce((
            SELECT e.balance_after FROM ledger_entries e
            WHERE e.account_id = i.account_id AND e.seq = i.seq), 0) - i.held
    UNION ALL
    SELECT s.account_id, format('key %s has spent %s, but %s is counted', s.key_id, p.amount,
                                s.total_spent)
    FROM spend_counters s CROSS JOIN LATERAL (
        SELECT coalesce(sum(p.amount), 0) AS amount
        FROM api_keys k JOIN purchases p ON p.account_id = k.account_id AND p.key_id = k.key_id
        WHERE k.account_id = s.account_id AND coalesce(k.spends_as, k.key_id) = s.key_id) AS p
    WHERE s.account_id BETWEEN p_first AND p_last AND s.total_spent <> p.amount
    UNION ALL
    SELECT k.account_id, format('key %s has a spend limit but no spend counter', k.key_id)
    FROM api_keys k
    WHERE k.account_id BETWEEN p_first AND p_last AND k.spend_limit IS NOT NULL AND (
        SELECT s.day FROM spend_counters s
        WHERE s.account_id = k.account_id AND s.key_id = coalesce(k.spends_as, k.key_id)) IS NULL
    UNION ALL
    SELECT p.account_id, format('%s purchases were made with key %s, which the account does not have',
                                p.number, p.key_id)
    FROM (SELECT account_id, key_id, count(*) AS number FROM purchases
          WHERE account_id BETWEEN p_first AND p_last GROUP BY account_id, key_id) AS p
    WHERE NOT EXISTS (
        SELECT FROM api_keys k WHERE k.account_id = p.account_id AND k.key_id = p.key_id)
$$;
