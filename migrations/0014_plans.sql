-- Plans. The columns of accounts have constant defaults, so that adding them rewrites no row.

-- While this waits for a lock, other statements wait behind it. If the wait ends by this timeout, the loader
-- tries again after a pause.
SET LOCAL lock_timeout = '300ms';

CREATE TABLE plans (
    tenant_id                   uuid NOT NULL REFERENCES tenants,
    name                        text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z][a-z0-9_-]{0,31}$'),
    max_keys                    smallint NOT NULL CHECK (max_keys BETWEEN 1 AND 1000),
    scopes                      text[] CHECK (cardinality(scopes) BETWEEN 1 AND 32),
    scope_texts                 text[],
    default_scopes              text[] NOT NULL CHECK (cardinality(default_scopes) BETWEEN 1 AND 32),
    max_lifetime_seconds        bigint CHECK (max_lifetime_seconds > 0),
    default_lifetime_seconds    bigint CHECK (default_lifetime_seconds > 0),
    write_without_networks_days integer CHECK (write_without_networks_days > 0),
    owner_creates_keys          boolean NOT NULL DEFAULT true,
    key_rate_limits             jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(key_rate_limits) = 'array'),
    account_rate_limits         jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(account_rate_limits) = 'array'),
    limits_generation           bigint NOT NULL DEFAULT 1 CHECK (limits_generation > 0),
    created_at                  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name),
    CONSTRAINT plans_scope_texts CHECK (
        (scopes IS NULL) = (scope_texts IS NULL) AND cardinality(scopes) = cardinality(scope_texts)),
    CONSTRAINT plans_lifetimes CHECK (default_lifetime_seconds <= max_lifetime_seconds)
);

COMMENT ON TABLE plans IS 'The rules for the keys of accounts. Each tenant has a plan default.';
COMMENT ON COLUMN plans.max_keys IS 'Maximum number of live keys of an account.';
COMMENT ON COLUMN plans.scopes IS
    'The scopes that keys may have. A key may also have scopes that these imply. NULL: any scope.';
COMMENT ON COLUMN plans.scope_texts IS 'For each of the scopes, a text for people.';
COMMENT ON COLUMN plans.default_scopes IS 'The scopes of a key that is created without scopes.';
COMMENT ON COLUMN plans.max_lifetime_seconds IS 'Longest time until a key expires. NULL: a key may never expire.';
COMMENT ON COLUMN plans.default_lifetime_seconds IS
    'The lifetime of a key that is created without an expiry. NULL: the longest one.';
COMMENT ON COLUMN plans.write_without_networks_days IS
    'A key that can write and may be used from any address expires within this number of days. NULL: no such rule.';
COMMENT ON COLUMN plans.owner_creates_keys IS 'Whether owners create keys in the dashboard.';
COMMENT ON COLUMN plans.key_rate_limits IS
    'The default rate limits of each key. A limit of the key with the same name replaces a default.';
COMMENT ON COLUMN plans.account_rate_limits IS
    'The default rate limits of each account. A limit of the account with the same name replaces a default.';
COMMENT ON COLUMN plans.limits_generation IS 'Counts the changes to the rate limits of the plan.';

INSERT INTO plans (tenant_id, name, max_keys, default_scopes, key_rate_limits, account_rate_limits,
                   limits_generation, created_at)
SELECT t.tenant_id, 'default', t.max_keys, t.default_scopes, coalesce(l.key_rate_limits, '[]'),
       coalesce(l.account_rate_limits, '[]'), coalesce(l.limits_generation, 0) + 1, t.created_at
FROM tenants t LEFT JOIN tenant_limits l USING (tenant_id);

COMMENT ON COLUMN tenants.max_keys IS
    'The value of the plan default when the tenant was created. Only the previous version reads it.';
COMMENT ON COLUMN tenants.default_scopes IS
    'The value of the plan default when the tenant was created. Only the previous version reads it.';

ALTER TABLE tenant_limits
    DROP COLUMN key_rate_limits,
    DROP COLUMN account_rate_limits;

ALTER TABLE accounts
    ADD COLUMN plan text COLLATE "C" NOT NULL DEFAULT 'default',
    ADD COLUMN plan_generation bigint NOT NULL DEFAULT 0;

COMMENT ON COLUMN accounts.plan IS 'The name of the account''s plan.';
COMMENT ON COLUMN accounts.plan_generation IS
    'The sum of the limits_generation of each earlier plan, plus one for each. So the sum of this column and the '
    'limits_generation of the current plan only increases.';

-- For the accounts of a plan. Most accounts have the plan default, and are not in the index.
CREATE INDEX accounts_plan ON accounts (tenant_id, plan, created_at DESC, account_id DESC)
    WHERE plan <> 'default';

ALTER TABLE admin_keys
    DROP CONSTRAINT admin_keys_permissions_check,
    ADD CONSTRAINT admin_keys_permissions CHECK (
        cardinality(permissions) >= 1
        AND permissions <@ ARRAY['accounts', 'keys', 'verify', 'credits', 'audit', 'dashboard', 'policy']) NOT VALID;
