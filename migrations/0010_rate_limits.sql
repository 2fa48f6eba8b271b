-- Rate limits. The columns of existing tables are nullable or have a constant default, so that adding them
-- rewrites no row. The constraints are not checked for existing rows, which are all NULL.

-- While this waits for a lock, other statements wait behind it. If the wait ends by this timeout, the loader
-- tries again after a pause.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE api_keys
    ADD COLUMN rate_limits jsonb,
    ADD COLUMN owner_rate_limits jsonb,
    ADD COLUMN limits_generation bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT api_keys_rate_limits CHECK (jsonb_typeof(rate_limits) = 'array') NOT VALID,
    ADD CONSTRAINT api_keys_owner_rate_limits CHECK (jsonb_typeof(owner_rate_limits) = 'object') NOT VALID;

COMMENT ON COLUMN api_keys.rate_limits IS
    'A list of objects with the members name, limit, window_seconds and scope. NULL: the key has none of its '
    'own, so the tenant''s defaults for keys apply.';
COMMENT ON COLUMN api_keys.owner_rate_limits IS
    'An object with a number of calls for each limit that the owner of the account has lowered.';
COMMENT ON COLUMN api_keys.limits_generation IS 'Counts the changes to the rate limits of the key.';

ALTER TABLE accounts
    ADD COLUMN rate_limits jsonb,
    ADD COLUMN limits_generation bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT accounts_rate_limits CHECK (jsonb_typeof(rate_limits) = 'array') NOT VALID;

COMMENT ON COLUMN accounts.rate_limits IS
    'As in api_keys, for all keys of the account together. NULL: the tenant''s defaults for accounts apply.';
COMMENT ON COLUMN accounts.limits_generation IS 'Counts the changes to the rate limits of the account.';

ALTER TABLE dashboard_settings ADD COLUMN owner_rate_limits boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN dashboard_settings.owner_rate_limits IS
    'Whether the owner of an account may lower the rate limits of its keys.';

CREATE TABLE tenant_limits (
    tenant_id           uuid PRIMARY KEY REFERENCES tenants,
    limits_generation   bigint NOT NULL DEFAULT 1,
    rate_limits         jsonb NOT NULL CHECK (jsonb_typeof(rate_limits) = 'array'),
    key_rate_limits     jsonb NOT NULL CHECK (jsonb_typeof(key_rate_limits) = 'array'),
    account_rate_limits jsonb NOT NULL CHECK (jsonb_typeof(account_rate_limits) = 'array')
);

COMMENT ON TABLE tenant_limits IS
    'The rate limits of tenants. A tenant without a row has none. They are not in tenants, whose rows never '
    'change.';
COMMENT ON COLUMN tenant_limits.limits_generation IS 'Counts the changes to this row.';
COMMENT ON COLUMN tenant_limits.rate_limits IS 'The limits of all calls of the tenant together.';
COMMENT ON COLUMN tenant_limits.key_rate_limits IS
    'The default limits of each key. A limit of the key with the same name replaces a default.';
COMMENT ON COLUMN tenant_limits.account_rate_limits IS
    'The default limits of each account. A limit of the account with the same name replaces a default.';

CREATE TABLE rate_limit_windows (
    account_id     uuid NOT NULL,
    holder_id      uuid NOT NULL,
    name           text COLLATE "C" NOT NULL,
    number         bigint NOT NULL,
    began_at       timestamptz NOT NULL,
    window_seconds integer NOT NULL CHECK (window_seconds BETWEEN 1 AND 2678400),
    given          integer NOT NULL CHECK (given >= 0),
    spent          integer NOT NULL CHECK (spent >= 0),
    held           integer NOT NULL DEFAULT 0 CHECK (held >= 0),
    held_until     timestamptz,
    PRIMARY KEY (account_id, holder_id, name)
)
-- Leaves room on each page for new row versions, so that updates stay heap-only (HOT).
WITH (fillfactor = 70);

COMMENT ON TABLE rate_limit_windows IS
    'The newest window of each rate limit. Rows of windows that are over are deleted after a while.';
COMMENT ON COLUMN rate_limit_windows.account_id IS
    'The account. For the limit of a tenant: the tenant''s id.';
COMMENT ON COLUMN rate_limit_windows.holder_id IS
    'The first key of a chain of rotations, or account_id again.';
COMMENT ON COLUMN rate_limit_windows.number IS
    'Identifies the window. It never repeats, even if the row is deleted and created again.';
COMMENT ON COLUMN rate_limit_windows.began_at IS 'When the window began, by the database''s clock.';
COMMENT ON COLUMN rate_limit_windows.given IS
    'Calls in the shares that nodes were given in this window, less the calls that they returned.';
COMMENT ON COLUMN rate_limit_windows.spent IS
    'Calls that nodes have reported as made. The difference to given is what nodes may still hold.';
COMMENT ON COLUMN rate_limit_windows.held IS
    'Calls that nodes may have held when the window became shorter, and may spend until held_until.';
COMMENT ON COLUMN rate_limit_windows.held_until IS 'NULL: the window never became shorter.';

ALTER TABLE api_key_usage
    DROP CONSTRAINT api_key_usage_outcome_check,
    ADD CONSTRAINT api_key_usage_outcome CHECK (outcome IN (
        'valid', 'revoked', 'expired', 'disabled', 'account_suspended', 'insufficient_scope',
        'rate_limited')) NOT VALID;
