-- Money. The tables that every purchase writes have no foreign keys. The functions that write them look
-- up the account and the key under the account's lock, and accounts, API keys and admin keys are never
-- deleted and never change their ids. `tollgate ledger verify` checks the references instead.

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

-- Finds credits and refunds without reading the many purchases between them.
CREATE INDEX ledger_entries_rare ON ledger_entries (account_id, kind, seq) WHERE kind <> 'purchase';

COMMENT ON TABLE ledger_entries IS
    'All changes of balances. Append-only. The amounts of an account sum to its balance.';
COMMENT ON COLUMN ledger_entries.seq IS '1, 2, 3, … within the account, without gaps.';
COMMENT ON COLUMN ledger_entries.amount IS
    'In minor units of the tenant''s currency. Positive: money in. Negative: money out.';
COMMENT ON COLUMN ledger_entries.balance_after IS 'The balance after this entry.';
COMMENT ON COLUMN ledger_entries.cause_id IS
    'The purchase, credit or refund that caused this entry.';
COMMENT ON COLUMN ledger_entries.key_id IS
    'The API key that made the purchase. NULL for credits and refunds.';
COMMENT ON COLUMN ledger_entries.admin_key_id IS
    'The admin key that made the credit or refund. NULL for purchases, and for credits and refunds that were '
    'made from the command line.';

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

-- For the purchases of one key, in the order of the ledger.
CREATE INDEX purchases_key ON purchases (account_id, key_id, seq);

COMMENT ON COLUMN purchases.purchase_id IS
    'UUIDv7 by the clock of the node that received the request. Purchases are ordered by seq, not by id.';
COMMENT ON COLUMN purchases.seq IS 'seq of the ledger entry of this purchase.';
COMMENT ON COLUMN purchases.reference IS 'The buyer''s own reference, such as an order number.';
COMMENT ON COLUMN purchases.hold_id IS
    'The hold that this purchase captured. NULL: the purchase captured no hold.';

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
    void_reason text CHECK (void_reason IN (
        'api_key', 'admin_key', 'account_owner', 'key_revoked', 'key_compromised')),
    captured    bigint CHECK (captured BETWEEN 1 AND amount),
    purchase_id uuid,
    PRIMARY KEY (account_id, hold_id),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id),
    FOREIGN KEY (account_id, closed_by) REFERENCES api_keys (account_id, key_id),
    CONSTRAINT holds_closed CHECK ((status = 'open') = (closed_at IS NULL)),
    CONSTRAINT holds_closed_by CHECK (
        (status = 'captured' OR void_reason IS NOT DISTINCT FROM 'api_key') = (closed_by IS NOT NULL)
        AND (closed_by IS NULL) = (closed_for IS NULL)),
    CONSTRAINT holds_void_reason CHECK ((status = 'voided') = (void_reason IS NOT NULL)),
    CONSTRAINT holds_captured CHECK (
        (status = 'captured') = (captured IS NOT NULL) AND (captured IS NULL) = (purchase_id IS NULL))
);

CREATE INDEX holds_open ON holds (account_id, expires_at) WHERE status = 'open';
CREATE INDEX holds_status ON holds (account_id, status, hold_id);
-- For the holds of one key.
CREATE INDEX holds_key ON holds (account_id, key_id, hold_id);
-- For the background job that releases expired holds of all accounts.
CREATE INDEX holds_due ON holds (expires_at, account_id) WHERE status = 'open';

COMMENT ON TABLE holds IS
    'Amounts reserved from a balance until they are captured or voided or expire.';
COMMENT ON COLUMN holds.key_id IS 'The API key that placed the hold.';
COMMENT ON COLUMN holds.expires_at IS
    'From exactly this time on, by the database''s clock, the hold cannot be captured.';
COMMENT ON COLUMN holds.closed_by IS
    'The API key that captured or voided the hold. NULL: no API key did.';
COMMENT ON COLUMN holds.closed_for IS
    'The request of closed_by that captured or voided the hold, so that a retry of the request finds its '
    'effect.';
COMMENT ON COLUMN holds.void_reason IS
    'api_key, admin_key, account_owner: the one who voided the hold. key_revoked, key_compromised: what '
    'happened to the key that placed it.';
COMMENT ON COLUMN holds.captured IS
    'The amount that was captured. The rest of the hold was released.';

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
COMMENT ON COLUMN credits.admin_key_id IS
    'The admin key that made the credit. NULL: it was made from the command line.';

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

-- For the refunds of one purchase.
CREATE INDEX refunds_purchase ON refunds (account_id, purchase_id, seq);

COMMENT ON TABLE refunds IS
    'Refunds of purchases. The refunds of a purchase never sum to more than its amount.';
COMMENT ON COLUMN refunds.admin_key_id IS
    'The admin key that made the refund. NULL: it was made from the command line.';

-- The decision for each Idempotency-Key. A record is written in the same transaction as its effect, and
-- is never deleted.
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
    'Each operation has its own namespace of keys, so that the keys of an account''s owner never collide '
    'with the keys of the tenant.';
COMMENT ON COLUMN idempotency_records.fingerprint IS
    'SHA-256 of the operation and the canonical body. A request with the same key and a different body is '
    'refused.';
COMMENT ON COLUMN idempotency_records.cause_id IS
    'The purchase, hold, credit or refund that was made. NULL: the request was declined.';
COMMENT ON COLUMN idempotency_records.available IS
    'For a decline: the available balance, or what was left of spend_limit.';
COMMENT ON COLUMN idempotency_records.request_id IS
    'The request of the first response. The body of a decline names it, and a replay repeats that body.';
COMMENT ON COLUMN idempotency_records.seq IS
    'For a decline: seq of the account''s newest ledger entry at that time.';
COMMENT ON COLUMN idempotency_records.held IS 'For a decline: the amount held at that time.';
COMMENT ON COLUMN idempotency_records.spend_limit IS
    'For a decline: the spend limit that was exceeded. NULL: the balance was insufficient.';

CREATE TABLE ledger_fences (
    account_id uuid NOT NULL REFERENCES accounts,
    batch_id   uuid NOT NULL,
    attempt    integer NOT NULL CHECK (attempt >= 2),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, batch_id)
);

COMMENT ON TABLE ledger_fences IS
    'Batches that were retried. If an earlier attempt of a batch arrives late, it finds the row and does '
    'nothing.';

-- Only keys that have, or had, a limit are counted: counting every key would add a tenth to the cost of a
-- purchase.
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
    'Amounts spent by keys that have, or had, a spend limit: one row per chain of rotated keys. Refunds '
    'do not reduce them. A row counts every purchase of its chain; a chain without a row has no limit.';
COMMENT ON COLUMN spend_counters.total_spent IS
    'In minor units, like the other amounts. numeric, because a lifetime total can exceed a bigint.';
COMMENT ON COLUMN spend_counters.day IS
    'The UTC day of the newest counted purchase. day_spent is the amount spent on this day.';
COMMENT ON COLUMN spend_counters.month IS
    'The first day of the UTC month of the newest counted purchase. month_spent is the amount of this month.';

-- The arguments and results of ledger_apply and ledger_apply_all: one row per operation.
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
    'Fields by kind. purchase: id, amount, reference, description, metadata. hold: id, amount, '
    'reference, expires_in (seconds). capture: id (of the purchase), hold_id, amount (NULL: the whole '
    'hold), metadata. void: hold_id. All kinds have key_id and request_id. Purchases and holds may have '
    'an idempotency_key with its fingerprint.';

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
    'place: the operation''s place in the batch, from 1. result: purchased, held, captured or voided: the '
    'operation is done; if decided_at is NULL, it was done earlier, and the caller reads the row with the id '
    'cause_id. insufficient_balance, spend_limit_exceeded: declined; decided_for is the request of the first '
    'decision. key_denied (reason: a result of key_denial), scope_lost, not_found, '
    'idempotency_mismatch, hold_not_open (reason: the status of the hold), hold_too_small (available: '
    'the amount of the hold), hold_limit_reached (reason: key or account, whose limit was reached): '
    'refused, and nothing is recorded. busy: another transaction has the account''s lock. fenced: a later attempt of the batch was applied first.';

CREATE TYPE ledger_key AS (
    key_id       uuid,
    spends_as    uuid,
    denial       text,
    spend_limit  bigint,
    spend_period text
);

COMMENT ON TYPE ledger_key IS
    'An API key that a batch uses. spends_as: the key whose spend counter it shares, or its own key_id. '
    'denial: a result of key_denial, or scope_lost. NULL: the key passes.';

-- Its fields are columns of idempotency_records. It is a separate type, because a cast to the type of a
-- table fails in the old functions once the table has a new column.
CREATE TYPE ledger_decline_record AS (
    operation       text,
    idempotency_key text,
    fingerprint     bytea,
    required        bigint,
    available       bigint,
    request_id      uuid,
    created_at      timestamptz,
    seq             bigint,
    held            bigint,
    spend_limit     bigint,
    spend_period    text
);

COMMENT ON TYPE ledger_decline_record IS 'The idempotency record of a declined operation.';
