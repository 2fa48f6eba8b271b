CREATE TABLE ledger_entries (
    account_id    uuid NOT NULL REFERENCES accounts,
    seq           bigint NOT NULL CHECK (seq >= 1),
    kind          text NOT NULL CHECK (kind IN ('credit', 'purchase')),
    amount        bigint NOT NULL,
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    cause_id      uuid NOT NULL,
    key_id        uuid,
    admin_key_id  uuid REFERENCES admin_keys,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, seq),
    CONSTRAINT ledger_entries_sign CHECK (
        CASE kind WHEN 'credit' THEN amount > 0 WHEN 'purchase' THEN amount < 0 END),
    CONSTRAINT ledger_entries_balance_before CHECK (balance_after - amount >= 0),
    CONSTRAINT ledger_entries_first CHECK (seq > 1 OR balance_after = amount),
    CONSTRAINT ledger_entries_maker CHECK ((kind = 'purchase') = (key_id IS NOT NULL)),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

COMMENT ON TABLE ledger_entries IS
    'Everything that ever moved a balance. Append-only; the sum of amount is the balance.';
COMMENT ON COLUMN ledger_entries.seq IS '1, 2, 3, … of its account, without a gap.';
COMMENT ON COLUMN ledger_entries.amount IS
    'Minor units of the tenant''s currency: above zero in, below zero out.';
COMMENT ON COLUMN ledger_entries.balance_after IS 'The balance once this entry had been applied.';
COMMENT ON COLUMN ledger_entries.cause_id IS 'The purchase or the credit that it is the effect of.';
COMMENT ON COLUMN ledger_entries.key_id IS 'The API key that bought.';
COMMENT ON COLUMN ledger_entries.admin_key_id IS 'The admin key that credited; NULL: the command line.';

CREATE TABLE purchases (
    account_id  uuid NOT NULL REFERENCES accounts,
    purchase_id uuid NOT NULL,
    seq         bigint NOT NULL,
    key_id      uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    reference   text CHECK (char_length(reference) BETWEEN 1 AND 200),
    description text CHECK (char_length(description) BETWEEN 1 AND 500),
    metadata    json NOT NULL CHECK (json_typeof(metadata) = 'object'),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (account_id, purchase_id),
    FOREIGN KEY (account_id, seq) REFERENCES ledger_entries (account_id, seq),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

-- What one key bought, newest first.
CREATE INDEX purchases_key ON purchases (account_id, key_id, purchase_id);

COMMENT ON COLUMN purchases.purchase_id IS
    'UUIDv7 of the database''s clock under the account''s lock: its order is that of the ledger.';
COMMENT ON COLUMN purchases.seq IS 'Its ledger entry.';
COMMENT ON COLUMN purchases.reference IS 'The buyer''s own id of it, such as an order number.';

CREATE TABLE credits (
    account_id   uuid NOT NULL REFERENCES accounts,
    credit_id    uuid NOT NULL,
    seq          bigint NOT NULL,
    admin_key_id uuid REFERENCES admin_keys,
    amount       bigint NOT NULL CHECK (amount > 0),
    reference    text CHECK (char_length(reference) BETWEEN 1 AND 200),
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, credit_id),
    FOREIGN KEY (account_id, seq) REFERENCES ledger_entries (account_id, seq)
);

COMMENT ON TABLE credits IS 'Top-ups.';
COMMENT ON COLUMN credits.admin_key_id IS 'Who credited; NULL: the command line.';

-- What was decided for an Idempotency-Key, written in the transaction of its effect, and kept as
-- long as that.
CREATE TABLE idempotency_records (
    account_id      uuid NOT NULL REFERENCES accounts,
    operation       text NOT NULL CHECK (operation IN ('purchase', 'credit')),
    idempotency_key text NOT NULL CHECK (idempotency_key ~ '^[!-~]{1,128}$'),
    fingerprint     bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    cause_id        uuid,
    required        bigint CHECK (required > 0),
    available       bigint CHECK (available >= 0),
    request_id      uuid,
    created_at      timestamptz NOT NULL,
    PRIMARY KEY (account_id, operation, idempotency_key),
    CONSTRAINT idempotency_records_done_or_declined CHECK (
        (cause_id IS NULL) = (required IS NOT NULL AND available IS NOT NULL)
        AND (cause_id IS NULL OR (required IS NULL AND available IS NULL))),
    CHECK (operation = 'purchase' OR cause_id IS NOT NULL),
    CHECK (required > available)
);

COMMENT ON COLUMN idempotency_records.operation IS
    'Each has keys of its own: those of an account''s owner are not those of the tenant.';
COMMENT ON COLUMN idempotency_records.fingerprint IS
    'SHA-256 of the operation and the canonical body: the same key with another body is refused.';
COMMENT ON COLUMN idempotency_records.cause_id IS 'The purchase or the credit that was made; NULL: it was declined.';
COMMENT ON COLUMN idempotency_records.available IS 'The balance that did not reach, when declined.';
COMMENT ON COLUMN idempotency_records.request_id IS
    'Of the first answer: a decline''s body names it, and a replay gives the same body.';

CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER purchases_append_only BEFORE UPDATE OR DELETE ON purchases
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER purchases_no_truncate BEFORE TRUNCATE ON purchases
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credits_append_only BEFORE UPDATE OR DELETE ON credits
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER credits_no_truncate BEFORE TRUNCATE ON credits
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER idempotency_records_append_only BEFORE UPDATE OR DELETE ON idempotency_records
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER idempotency_records_no_truncate BEFORE TRUNCATE ON idempotency_records
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
