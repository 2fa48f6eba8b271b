-- The first limit of keys that spend together: from here on it is counted what they spend, beginning
-- with what they have bought, as of the newest entry. No purchase of the account can come in between.
-- Who sets a limit by SQL locks the account first, as the program does: it is locked here all the same.
CREATE OR REPLACE FUNCTION begin_counting_spend() RETURNS trigger
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

CREATE OR REPLACE TRIGGER api_keys_spend_limit AFTER INSERT OR UPDATE OF spend_limit ON api_keys
    FOR EACH ROW WHEN (NEW.spend_limit IS NOT NULL) EXECUTE FUNCTION begin_counting_spend();
