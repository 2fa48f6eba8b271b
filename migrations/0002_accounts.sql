-- Every table below belongs to accounts and has account_id first in its primary key: the schema
-- can be spread over the nodes of a Postgres cluster by it.

CREATE TABLE accounts (
    account_id    uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    -- No regular expression: it would take more time than all else that is done to a row.
    external_id   text NOT NULL CHECK (octet_length(external_id) BETWEEN 1 AND 128),
    status        text NOT NULL CHECK (status IN ('active', 'suspended')),
    balance       bigint NOT NULL CONSTRAINT accounts_balance_not_negative CHECK (balance >= 0),
    last_seq      bigint NOT NULL CHECK (last_seq >= 0),
    created_at    timestamptz NOT NULL,
    held          bigint NOT NULL DEFAULT 0,
    last_entry_at timestamptz,
    CONSTRAINT accounts_held CHECK (held BETWEEN 0 AND balance)
)
-- Room on each page for the newer version of a row, so that no index has to learn of it.
WITH (fillfactor = 80);

-- Newest first, within a tenant.
CREATE INDEX accounts_tenant_created ON accounts (tenant_id, created_at DESC, account_id DESC);

COMMENT ON COLUMN accounts.account_id IS
    'UUIDv5 of tenant_id (the namespace) and external_id: unique as the pair is.';
COMMENT ON COLUMN accounts.external_id IS
    'The tenant''s own id of the account: a wallet address, a user id.';
COMMENT ON COLUMN accounts.balance IS
    'Minor units of the tenant''s currency. Always the sum of the account''s ledger entries.';
COMMENT ON COLUMN accounts.last_seq IS 'seq of the newest ledger entry; 0 before the first.';
COMMENT ON COLUMN accounts.held IS
    'Minor units that open holds reserve: balance - held is what can be bought with.';
COMMENT ON COLUMN accounts.last_entry_at IS
    'created_at of the newest ledger entry: the next is never earlier, so that time follows seq.';
