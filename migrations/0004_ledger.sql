-- Money. What is looked up under the account's lock need not be looked up again for each row:
-- accounts, keys and admin keys are never deleted and keep their ids, and so the tables that every
-- purchase writes have no foreign keys. `tollgate ledger verify` checks the same.

CREATE TABLE ledger_entries (
    account_id    uuid NOT NULL,
    seq           bigint NOT NULL CHECK (seq >= 1),
    kind          text NOT NULL,
    amount        bigint NOT NULL,
    balance_after bigint NOT NULL CHECK (balance_after >= 0),
    cause_id      uuid NOT NULL,
    key_id        uuid,
    admin_key_id  uuid,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, seq),
    CONSTRAINT ledger_entries_sign CHECK (
        CASE kind WHEN 'purchase' THEN amount < 0
                  WHEN 'credit' THEN amount > 0 WHEN 'refund' THEN amount > 0 ELSE false END),
    CONSTRAINT ledger_entries_balance_before CHECK (balance_after - amount >= 0),
    CONSTRAINT ledger_entries_first CHECK (seq > 1 OR balance_after = amount),
    CONSTRAINT ledger_entries_maker CHECK ((kind = 'purchase') = (key_id IS NOT NULL))
);

-- The kinds that are rare, so that they are found among many purchases.
CREATE INDEX ledger_entries_rare ON ledger_entries (account_id, kind, seq) WHERE kind <> 'purchase';

COMMENT ON TABLE ledger_entries IS
    'Everything that ever moved a balance. Append-only; the sum of amount is the balance.';
COMMENT ON COLUMN ledger_entries.seq IS '1, 2, 3, … of its account, without a gap.';
COMMENT ON COLUMN ledger_entries.amount IS
    'Minor units of the tenant''s currency: above zero in, below zero out.';
COMMENT ON COLUMN ledger_entries.balance_after IS 'The balance once this entry had been applied.';
COMMENT ON COLUMN ledger_entries.cause_id IS
    'The purchase, the credit or the refund that it is the effect of.';
COMMENT ON COLUMN ledger_entries.key_id IS 'The API key that bought.';
COMMENT ON COLUMN ledger_entries.admin_key_id IS
    'The admin key that credited or refunded; NULL: the command line.';

CREATE TABLE purchases (
    account_id  uuid NOT NULL,
    purchase_id uuid NOT NULL,
    seq         bigint NOT NULL,
    key_id      uuid NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    reference   text CHECK (char_length(reference) BETWEEN 1 AND 200),
    description text CHECK (char_length(description) BETWEEN 1 AND 500),
    metadata    json NOT NULL CHECK (json_typeof(metadata) = 'object'),
    created_at  timestamptz NOT NULL,
    hold_id     uuid,
    PRIMARY KEY (account_id, purchase_id)
);

-- What one key bought, in the order of the ledger.
CREATE INDEX purchases_key ON purchases (account_id, key_id, seq);

COMMENT ON COLUMN purchases.purchase_id IS
    'UUIDv7 of the clock of the node that took the request; the order of purchases is that of seq.';
COMMENT ON COLUMN purchases.seq IS 'Its ledger entry.';
COMMENT ON COLUMN purchases.reference IS 'The buyer''s own id of it, such as an order number.';
COMMENT ON COLUMN purchases.hold_id IS 'The hold that was captured.';

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

-- What was decided for an Idempotency-Key, written in the transaction of its effect, and kept as
-- long as that.
CREATE TABLE idempotency_records (
    account_id      uuid NOT NULL,
    operation       text NOT NULL CHECK (operation IN ('purchase', 'credit', 'hold', 'refund')),
    idempotency_key text NOT NULL CHECK (octet_length(idempotency_key) BETWEEN 1 AND 128),
    fingerprint     bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    cause_id        uuid,
    required        bigint CHECK (required > 0),
    available       bigint CHECK (available >= 0),
    request_id      uuid,
    created_at      timestamptz NOT NULL,
    seq             bigint CHECK (seq >= 0),
    held            bigint CHECK (held >= 0),
    spend_limit     bigint CHECK (spend_limit > 0),
    spend_period    text CHECK (spend_period IN ('day', 'month', 'total')),
    PRIMARY KEY (account_id, operation, idempotency_key),
    CONSTRAINT idempotency_records_done_or_declined CHECK (
        (cause_id IS NULL) = (required IS NOT NULL AND available IS NOT NULL)
        AND (cause_id IS NULL OR (required IS NULL AND available IS NULL))),
    CONSTRAINT idempotency_records_check1 CHECK (required > available),
    CONSTRAINT idempotency_records_declined CHECK (
        operation IN ('purchase', 'hold') OR cause_id IS NOT NULL),
    CONSTRAINT idempotency_records_spend_limit CHECK (
        (spend_limit IS NULL) = (spend_period IS NULL)
        AND (spend_limit IS NULL OR (cause_id IS NULL AND available <= spend_limit)))
);

COMMENT ON COLUMN idempotency_records.operation IS
    'Each has keys of its own: those of an account''s owner are not those of the tenant.';
COMMENT ON COLUMN idempotency_records.fingerprint IS
    'SHA-256 of the operation and the canonical body: the same key with another body is refused.';
COMMENT ON COLUMN idempotency_records.cause_id IS
    'The purchase, hold, credit or refund that was made; NULL: it was declined.';
COMMENT ON COLUMN idempotency_records.available IS
    'What did not reach, when declined: balance less held, or what was left of spend_limit.';
COMMENT ON COLUMN idempotency_records.request_id IS
    'Of the first answer: a decline''s body names it, and a replay gives the same body.';
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

-- A row of its own beside every purchase of everybody would be a tenth of what a purchase costs.
CREATE TABLE spend_counters (
    account_id  uuid NOT NULL,
    key_id      uuid NOT NULL,
    day         date NOT NULL,
    day_spent   numeric NOT NULL,
    month       date NOT NULL,
    month_spent numeric NOT NULL,
    total_spent numeric NOT NULL,
    PRIMARY KEY (account_id, key_id),
    CONSTRAINT spend_counters_periods CHECK (
        0 <= day_spent AND day_spent <= month_spent AND month_spent <= total_spent)
) WITH (fillfactor = 70);

COMMENT ON TABLE spend_counters IS
    'What keys with a limit have bought: one row for all that spend as the same key. Refunds do not '
    'count. Where there is a row, it is complete; where there is none, nobody has a limit.';
COMMENT ON COLUMN spend_counters.total_spent IS
    'Minor units, as the others. What is credited and spent again and again outgrows a bigint.';
COMMENT ON COLUMN spend_counters.day IS
    'The day of UTC that was counted in last, and what was spent in it.';
COMMENT ON COLUMN spend_counters.month IS 'The first day of the month that was counted in last.';

-- What the functions that decide take and what they give, for each operation.
CREATE TYPE ledger_operation AS (
    account_id      uuid,
    kind            text,
    id              uuid,
    key_id          uuid,
    request_id      uuid,
    amount          bigint,
    reference       text,
    description     text,
    metadata        text,
    idempotency_key text,
    fingerprint     bytea,
    hold_id         uuid,
    expires_in      integer
);

COMMENT ON TYPE ledger_operation IS
    'purchase: id, amount, reference, description, metadata. hold: id, amount, reference, '
    'expires_in (seconds). capture: id (of the purchase), hold_id, amount (NULL: all), metadata. '
    'void: hold_id. Each has key_id and request_id; the first two may have an idempotency_key '
    'with its fingerprint.';

CREATE TYPE ledger_outcome AS (
    place         bigint,
    result        text,
    replayed      boolean,
    seq           bigint,
    balance_after bigint,
    decided_at    timestamptz,
    cause_id      uuid,
    required      bigint,
    available     bigint,
    spend_limit   bigint,
    spend_period  text,
    decided_for   uuid,
    reason        text
);

COMMENT ON TYPE ledger_outcome IS
    'result: purchased, held, captured, voided: done; without decided_at it was done before, and '
    'cause_id is to be read. insufficient_balance, spend_limit_exceeded: declined for the request '
    'decided_for. key_denied (reason: revoked, expired, disabled, account_suspended), scope_lost, '
    'not_found, idempotency_mismatch, hold_not_open (reason: its status), hold_too_small '
    '(available: its amount), hold_limit_reached: refused, and nothing is recorded. busy: the '
    'account is locked. fenced: a later attempt came first.';
