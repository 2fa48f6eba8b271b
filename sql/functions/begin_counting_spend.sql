-- Starts to count the spending of a chain of rotated keys when one of its keys gets a spend limit for the
-- first time. The count includes the purchases that the chain has already made. During the count, the
-- account's lock prevents other purchases. The program takes this lock before it sets a limit. The function
-- also takes it, for limits that are set by hand.
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
    INSERT INTO spend_counters (account_id, key_id, day, day_spent, month, month_spent, total_spent)
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
