-- Every table of an account has account_id first in its primary key, so that accounts can be moved to
-- another database.

CREATE TABLE accounts (
    account_id    uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    -- Only the length is checked: a regular expression here would cost more than the rest of an
    -- update of the row.
    external_id   text NOT NULL CHECK (octet_length(external_id) BETWEEN 1 AND 128),
    status        text NOT NULL CHECK (status IN ('active', 'suspended')),
    balance       bigint NOT NULL CONSTRAINT accounts_balance_not_negative CHECK (balance >= 0),
    last_seq      bigint NOT NULL CHECK (last_seq >= 0),
    created_at    timestamptz NOT NULL,
    held          bigint NOT NULL DEFAULT 0,
    last_entry_at timestamptz,
    CONSTRAINT accounts_held CHECK (held BETWEEN 0 AND balance)
)
-- Leaves room on each page for new row versions, so that updates stay heap-only (HOT).
WITH (fillfactor = 80);

-- For the list of a tenant's accounts, newest first.
CREATE INDEX accounts_tenant_created ON accounts (tenant_id, created_at DESC, account_id DESC);

COMMENT ON COLUMN accounts.account_id IS
    'UUIDv5 with tenant_id as the namespace and external_id as the name, so it is unique for this pair.';
COMMENT ON COLUMN accounts.external_id IS
    'The tenant''s own identifier of the account, such as a wallet address or a user id.';
COMMENT ON COLUMN accounts.balance IS
    'In minor units of the tenant''s currency. Always equals the sum of the account''s ledger entries.';
COMMENT ON COLUMN accounts.last_seq IS 'seq of the newest ledger entry, or 0 if there is none.';
COMMENT ON COLUMN accounts.held IS
    'Minor units reserved by open holds. The available balance is balance - held.';
COMMENT ON COLUMN accounts.last_entry_at IS
    'created_at of the newest ledger entry. The next entry is never earlier, so created_at follows seq.';
