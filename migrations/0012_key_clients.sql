-- The clients that used a key. New columns are nullable or have a constant default, so that adding them rewrites no
-- row. The constraints are not checked for existing rows, which are all NULL.

-- While this waits for a lock, other statements wait behind it. If the wait ends by this timeout, the loader
-- tries again after a pause.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE api_key_last_used
    ADD COLUMN address inet,
    ADD COLUMN user_agent text,
    ADD COLUMN route text,
    ADD CONSTRAINT api_key_last_used_user_agent CHECK (char_length(user_agent) BETWEEN 1 AND 100) NOT VALID;

COMMENT ON COLUMN api_key_last_used.address IS
    'The address of the client that used the key last, or its network. NULL: it is unknown, or the tenant '
    'does not store addresses.';
COMMENT ON COLUMN api_key_last_used.user_agent IS
    'The first 100 characters of the client''s User-Agent. NULL: it is unknown.';
COMMENT ON COLUMN api_key_last_used.route IS 'The pattern of the route, never a path. NULL: it is unknown.';

ALTER TABLE dashboard_settings
    ADD COLUMN client_addresses text NOT NULL DEFAULT 'full',
    ADD CONSTRAINT dashboard_settings_client_addresses CHECK (
        client_addresses IN ('full', 'truncated', 'off')) NOT VALID;

COMMENT ON COLUMN dashboard_settings.client_addresses IS
    'Which addresses of clients are stored for the keys of the tenant.';

CREATE TABLE api_key_networks (
    account_id    uuid NOT NULL,
    key_id        uuid NOT NULL,
    network       cidr NOT NULL,
    first_used_at timestamptz NOT NULL,
    last_used_at  timestamptz NOT NULL CHECK (last_used_at >= first_used_at),
    PRIMARY KEY (account_id, key_id, network),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
)
-- Leaves room on each page for new row versions, so that updates stay heap-only (HOT).
WITH (fillfactor = 80);

COMMENT ON TABLE api_key_networks IS
    'The networks from which keys were used in the last 30 days, at most 50 for each key.';
COMMENT ON COLUMN api_key_networks.last_used_at IS 'Each node updates it at most once a minute.';

CREATE TABLE api_key_refusals (
    account_id uuid NOT NULL,
    key_id     uuid NOT NULL,
    number     bigint GENERATED ALWAYS AS IDENTITY,
    outcome    text NOT NULL CHECK (outcome <> 'valid'),
    count      bigint NOT NULL CHECK (count > 0),
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL CHECK (last_at >= first_at),
    address    inet,
    user_agent text CHECK (char_length(user_agent) BETWEEN 1 AND 100),
    route      text,
    PRIMARY KEY (account_id, key_id, number),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

COMMENT ON TABLE api_key_refusals IS
    'The last refused requests with a key, at most 100 rows for each key, of the last 30 days. A row counts equal '
    'refusals of one client in a row.';
