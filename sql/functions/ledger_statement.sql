-- Returns the entries of an account with p_after < seq <= p_last, in either direction, optionally only the
-- entries of one key or one kind. Each branch uses one index in one direction. A partial index finds the
-- few entries of a rare kind among many purchases.
CREATE OR REPLACE FUNCTION ledger_statement(
    p_account_id uuid, p_after bigint, p_last bigint, p_key_id uuid, p_kind text,
    p_ascending boolean, p_limit bigint
) RETURNS TABLE (
    seq bigint, kind text, amount bigint, balance_after bigint, cause_id uuid, key_id uuid,
    admin_key_id uuid, reference text, created_at timestamptz
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_custom_plan
SET max_parallel_workers_per_gather = 0
AS $$
#variable_conflict use_column
DECLARE
    v_seqs bigint[];
    -- 1 sorts oldest first, and -1 sorts newest first.
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
        -- The range keeps the planner on the primary key. By the array alone, it may read the whole table.
        WHERE e.account_id = p_account_id AND e.seq = ANY (v_seqs)
            AND e.seq >= least(v_seqs[1], v_seqs[cardinality(v_seqs)])
            AND e.seq <= greatest(v_seqs[1], v_seqs[cardinality(v_seqs)])
        ORDER BY e.seq * v_sign;
END
$$;
