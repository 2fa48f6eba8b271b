-- Money, a batch of an account at a time: holds, refunds, spend limits, and the functions that
-- decide. ARCHITECTURE.md says why they are as they are.

-- All at once: a node of the version before that reads one of them while it waits for another would
-- wait in a circle with what follows.
LOCK TABLE accounts, api_keys, ledger_entries, purchases, credits, idempotency_records, admin_keys
    IN ACCESS EXCLUSIVE MODE;

ALTER TABLE accounts
    ADD COLUMN held bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_entry_at timestamptz,
    ADD CONSTRAINT accounts_held CHECK (held BETWEEN 0 AND balance),
    -- A regular expression takes more time than all else that is done to a row.
    DROP CONSTRAINT accounts_external_id_check,
    ADD CONSTRAINT accounts_external_id_check CHECK (octet_length(external_id) BETWEEN 1 AND 128);

COMMENT ON COLUMN accounts.held IS
    'Minor units that open holds reserve: balance - held is what can be bought with.';
COMMENT ON COLUMN accounts.last_entry_at IS
    'created_at of the newest ledger entry: the next is never earlier, so that time follows seq.';

-- Where the clock was once set back.
ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only;
UPDATE ledger_entries e SET created_at = later.at
FROM (SELECT account_id, seq, created_at,
             max(created_at) OVER (PARTITION BY account_id ORDER BY seq) AS at
      FROM ledger_entries) AS later
WHERE e.account_id = later.account_id AND e.seq = later.seq AND later.created_at < later.at;
ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_append_only;

UPDATE accounts SET last_entry_at = (
    SELECT max(created_at) FROM ledger_entries e WHERE e.account_id = accounts.account_id)
WHERE last_seq > 0;

-- Room on each page for the newer version of a row, so that no index has to learn of it.
ALTER TABLE accounts SET (fillfactor = 80);

-- An account is referred to for good.
CREATE TRIGGER accounts_identity BEFORE UPDATE OF account_id, tenant_id, external_id ON accounts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

ALTER TABLE api_keys
    ADD COLUMN spend_limit bigint CHECK (spend_limit > 0),
    ADD COLUMN spend_period text CHECK (spend_period IN ('day', 'month', 'total')),
    ADD COLUMN spends_as uuid,
    ADD CONSTRAINT api_keys_spend_limit CHECK ((spend_limit IS NULL) = (spend_period IS NULL));

COMMENT ON COLUMN api_keys.spend_limit IS
    'Minor units that the key may spend in each spend_period; NULL: all there is.';
COMMENT ON COLUMN api_keys.spend_period IS 'A day or a month of UTC, or total: all its life.';
COMMENT ON COLUMN api_keys.spends_as IS
    'The first of the keys that replaced each other, which spend together. NULL: this is it.';

-- Dead keys too.
ALTER TABLE api_keys DISABLE TRIGGER api_keys_change;
WITH RECURSIVE chain AS (
    SELECT account_id, key_id, key_id AS first FROM api_keys WHERE rotated_from IS NULL
    UNION ALL
    SELECT k.account_id, k.key_id, chain.first FROM api_keys k
    JOIN chain ON k.account_id = chain.account_id AND k.rotated_from = chain.key_id)
UPDATE api_keys k SET spends_as = chain.first FROM chain
WHERE k.account_id = chain.account_id AND k.key_id = chain.key_id AND chain.first <> k.key_id;
ALTER TABLE api_keys ENABLE TRIGGER api_keys_change;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_spends_as CHECK (
    (rotated_from IS NULL) = (spends_as IS NULL));

CREATE OR REPLACE FUNCTION check_api_key_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.revoked_at IS NOT NULL OR OLD.expires_at <= clock_timestamp() THEN
        PERFORM raise_violation('api_keys_dead_stays_dead', 'a dead key cannot be changed');
    END IF;
    IF (NEW.account_id, NEW.key_id, NEW.tenant_id, NEW.key_hash, NEW.hint, NEW.created_at,
        NEW.rotated_from, NEW.spends_as)
        IS DISTINCT FROM
        (OLD.account_id, OLD.key_id, OLD.tenant_id, OLD.key_hash, OLD.hint, OLD.created_at,
        OLD.rotated_from, OLD.spends_as)
    THEN
        PERFORM raise_violation('api_keys_identity', 'a key keeps its identity');
    END IF;
    IF OLD.rotated_to IS NOT NULL AND (
        NEW.rotated_to IS DISTINCT FROM OLD.rotated_to
        OR NEW.expires_at IS NULL OR NEW.expires_at > OLD.expires_at
    ) THEN
        PERFORM raise_violation(
            'api_keys_rotated_once', 'a key that was rotated out dies when its grace ends');
    END IF;
    RETURN NEW;
END
$$;

CREATE TABLE api_key_spend (
    account_id  uuid NOT NULL,
    key_id      uuid NOT NULL,
    day         date NOT NULL,
    day_spent   numeric NOT NULL,
    month       date NOT NULL,
    month_spent numeric NOT NULL,
    total_spent numeric NOT NULL,
    PRIMARY KEY (account_id, key_id),
    CONSTRAINT api_key_spend_periods CHECK (
        0 < day_spent AND day_spent <= month_spent AND month_spent <= total_spent)
) WITH (fillfactor = 70);

COMMENT ON TABLE api_key_spend IS
    'What keys have bought: one row for all that spend as the same key. Refunds do not count.';
COMMENT ON COLUMN api_key_spend.total_spent IS
    'Minor units, as the others. What is credited and spent again and again outgrows a bigint.';
COMMENT ON COLUMN api_key_spend.day IS 'The day of UTC of the newest purchase, and what was spent in it.';
COMMENT ON COLUMN api_key_spend.month IS 'The first day of the month of the newest purchase.';

INSERT INTO api_key_spend
SELECT account_id, spender, max(day),
       sum(amount) FILTER (WHERE day = last_day), max(month),
       sum(amount) FILTER (WHERE month = last_month), sum(amount)
FROM (SELECT *, max(day) OVER w AS last_day, max(month) OVER w AS last_month
      FROM (SELECT p.account_id, coalesce(k.spends_as, k.key_id) AS spender, p.amount,
                   (p.created_at AT TIME ZONE 'UTC')::date AS day,
                   date_trunc('month', p.created_at AT TIME ZONE 'UTC')::date AS month
            FROM purchases p JOIN api_keys k USING (account_id, key_id)) AS bought
      WINDOW w AS (PARTITION BY account_id, spender)) AS bought
GROUP BY account_id, spender;

CREATE TABLE holds (
    account_id  uuid NOT NULL REFERENCES accounts,
    hold_id     uuid NOT NULL,
    key_id      uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    reference   text CHECK (char_length(reference) BETWEEN 1 AND 200),
    status      text NOT NULL CHECK (status IN ('open', 'captured', 'voided', 'expired')),
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL CHECK (expires_at > created_at),
    closed_at   timestamptz,
    closed_by   uuid,
    closed_for  uuid,
    captured    bigint CHECK (captured BETWEEN 1 AND amount),
    purchase_id uuid,
    PRIMARY KEY (account_id, hold_id),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id),
    FOREIGN KEY (account_id, closed_by) REFERENCES api_keys (account_id, key_id),
    CONSTRAINT holds_closed CHECK ((status = 'open') = (closed_at IS NULL)),
    CONSTRAINT holds_closed_by CHECK (
        (status IN ('captured', 'voided')) = (closed_by IS NOT NULL)
        AND (closed_by IS NULL) = (closed_for IS NULL)),
    CONSTRAINT holds_captured CHECK (
        (status = 'captured') = (captured IS NOT NULL) AND (captured IS NULL) = (purchase_id IS NULL))
);

CREATE INDEX holds_open ON holds (account_id, expires_at) WHERE status = 'open';
CREATE INDEX holds_status ON holds (account_id, status, hold_id);
-- What has to be released, whoever's it is.
CREATE INDEX holds_due ON holds (expires_at, account_id) WHERE status = 'open';

COMMENT ON TABLE holds IS 'Parts of a balance that are reserved until they are captured, voided, or expire.';
COMMENT ON COLUMN holds.key_id IS 'The API key that made it.';
COMMENT ON COLUMN holds.expires_at IS 'At exactly this moment of the database''s clock it can no longer be captured.';
COMMENT ON COLUMN holds.closed_by IS 'The API key that captured or voided it.';
COMMENT ON COLUMN holds.closed_for IS 'The request that did: sent again it finds what it did.';
COMMENT ON COLUMN holds.captured IS 'What was bought with it; the rest was released.';

CREATE FUNCTION check_hold_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'open' THEN
        PERFORM raise_violation('holds_closed_once', 'a hold is closed once');
    END IF;
    IF (NEW.account_id, NEW.hold_id, NEW.key_id, NEW.amount, NEW.reference, NEW.created_at, NEW.expires_at)
        IS DISTINCT FROM
        (OLD.account_id, OLD.hold_id, OLD.key_id, OLD.amount, OLD.reference, OLD.created_at, OLD.expires_at)
    THEN
        PERFORM raise_violation('holds_identity', 'a hold changes only by being closed');
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER holds_change BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION check_hold_change();
CREATE TRIGGER holds_no_delete BEFORE DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER holds_no_truncate BEFORE TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE refunds (
    account_id   uuid NOT NULL REFERENCES accounts,
    refund_id    uuid NOT NULL,
    purchase_id  uuid NOT NULL,
    seq          bigint NOT NULL,
    admin_key_id uuid REFERENCES admin_keys,
    amount       bigint NOT NULL CHECK (amount > 0),
    reference    text CHECK (char_length(reference) BETWEEN 1 AND 200),
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, refund_id),
    FOREIGN KEY (account_id, purchase_id) REFERENCES purchases (account_id, purchase_id),
    FOREIGN KEY (account_id, seq) REFERENCES ledger_entries (account_id, seq)
);

-- What was given back of one purchase.
CREATE INDEX refunds_purchase ON refunds (account_id, purchase_id, seq);

COMMENT ON TABLE refunds IS 'What was given back of purchases: in sum never more than was paid.';
COMMENT ON COLUMN refunds.admin_key_id IS 'Who refunded; NULL: the command line.';

CREATE TRIGGER refunds_append_only BEFORE UPDATE OR DELETE ON refunds
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refunds_no_truncate BEFORE TRUNCATE ON refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What is looked up under the account's lock need not be looked up again for each row: accounts,
-- keys and admin keys are never deleted and keep their ids. `tollgate ledger verify` checks the same.
ALTER TABLE ledger_entries
    DROP CONSTRAINT ledger_entries_account_id_fkey,
    DROP CONSTRAINT ledger_entries_account_id_key_id_fkey,
    DROP CONSTRAINT ledger_entries_admin_key_id_fkey,
    DROP CONSTRAINT ledger_entries_kind_check,
    DROP CONSTRAINT ledger_entries_sign,
    ADD CONSTRAINT ledger_entries_sign CHECK (
        CASE kind WHEN 'purchase' THEN amount < 0
                  WHEN 'credit' THEN amount > 0 WHEN 'refund' THEN amount > 0 ELSE false END);
ALTER TABLE purchases
    DROP CONSTRAINT purchases_account_id_fkey,
    DROP CONSTRAINT purchases_account_id_seq_fkey,
    DROP CONSTRAINT purchases_account_id_key_id_fkey,
    ADD COLUMN hold_id uuid;

COMMENT ON COLUMN ledger_entries.cause_id IS
    'The purchase, the credit or the refund that it is the effect of.';
COMMENT ON COLUMN ledger_entries.admin_key_id IS
    'The admin key that credited or refunded; NULL: the command line.';
COMMENT ON COLUMN purchases.purchase_id IS
    'UUIDv7 of the clock of the node that took the request; the order of purchases is that of seq.';
COMMENT ON COLUMN purchases.hold_id IS 'The hold that was captured.';

-- What one key bought, in the order of the ledger.
DROP INDEX purchases_key;
CREATE INDEX purchases_key ON purchases (account_id, key_id, seq);
-- The kinds that are rare, so that they are found among many purchases.
CREATE INDEX ledger_entries_rare ON ledger_entries (account_id, kind, seq) WHERE kind <> 'purchase';

ALTER TABLE idempotency_records
    DROP CONSTRAINT idempotency_records_account_id_fkey,
    DROP CONSTRAINT idempotency_records_operation_check,
    ADD CONSTRAINT idempotency_records_operation_check
        CHECK (operation IN ('purchase', 'credit', 'hold', 'refund')),
    DROP CONSTRAINT idempotency_records_check,
    -- As that of external_id.
    DROP CONSTRAINT idempotency_records_idempotency_key_check,
    ADD CONSTRAINT idempotency_records_idempotency_key_check
        CHECK (octet_length(idempotency_key) BETWEEN 1 AND 128),
    ADD CONSTRAINT idempotency_records_declined CHECK (
        operation IN ('purchase', 'hold') OR cause_id IS NOT NULL),
    ADD COLUMN seq bigint CHECK (seq >= 0),
    ADD COLUMN held bigint CHECK (held >= 0),
    ADD COLUMN spend_limit bigint CHECK (spend_limit > 0),
    ADD COLUMN spend_period text CHECK (spend_period IN ('day', 'month', 'total')),
    ADD CONSTRAINT idempotency_records_spend_limit CHECK (
        (spend_limit IS NULL) = (spend_period IS NULL)
        AND (spend_limit IS NULL OR (cause_id IS NULL AND available <= spend_limit)));

COMMENT ON COLUMN idempotency_records.cause_id IS
    'The purchase, hold, credit or refund that was made; NULL: it was declined.';
COMMENT ON COLUMN idempotency_records.available IS
    'What did not reach, when declined: balance less held, or what was left of spend_limit.';
COMMENT ON COLUMN idempotency_records.seq IS 'That of the newest ledger entry when it was declined.';
COMMENT ON COLUMN idempotency_records.held IS 'What was held when it was declined.';
COMMENT ON COLUMN idempotency_records.spend_limit IS
    'The limit of the key that declined it; NULL: the balance did.';

CREATE TABLE ledger_fences (
    account_id uuid NOT NULL REFERENCES accounts,
    batch_id   uuid NOT NULL,
    attempt    integer NOT NULL CHECK (attempt >= 2),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, batch_id)
);

COMMENT ON TABLE ledger_fences IS
    'Batches that were sent again after a lost connection: an earlier attempt that comes late does nothing.';
