-- The dashboard: its settings, links, sessions and sign-ins. Tokens are stored as SHA-256 only. Expired
-- rows are deleted when new rows are inserted.

CREATE TABLE dashboard_settings (
    tenant_id      uuid PRIMARY KEY REFERENCES tenants,
    name           text CHECK (char_length(name) BETWEEN 1 AND 60),
    color          text CHECK (color ~ '^#[0-9a-f]{6}$'),
    logo           bytea CHECK (octet_length(logo) BETWEEN 1 AND 32768),
    logo_hash      bytea CHECK (octet_length(logo_hash) = 32),
    logo_type      text CHECK (logo_type IN ('image/png', 'image/jpeg', 'image/webp')),
    return_origins text[] NOT NULL DEFAULT '{}' CHECK (cardinality(return_origins) <= 20),
    wallet_sign_in text NOT NULL DEFAULT 'off'
        CHECK (wallet_sign_in IN ('off', 'existing', 'create')),
    CONSTRAINT dashboard_settings_logo CHECK (
        num_nulls(logo, logo_hash, logo_type) IN (0, 3))
);

COMMENT ON TABLE dashboard_settings IS
    'Dashboard settings of a tenant. A tenant without a row uses the defaults.';
COMMENT ON COLUMN dashboard_settings.name IS 'The name shown to users. NULL: the slug is shown.';
COMMENT ON COLUMN dashboard_settings.logo_hash IS 'SHA-256 of logo. Part of the URL of the logo.';
COMMENT ON COLUMN dashboard_settings.return_origins IS
    'Allowed origins of a return_url: scheme, host, and the port unless it is the scheme''s default.';
COMMENT ON COLUMN dashboard_settings.wallet_sign_in IS
    'Sign-in with a wallet. existing: only for existing accounts; create: the first sign-in creates the '
    'account.';

CREATE TABLE dashboard_links (
    account_id   uuid NOT NULL REFERENCES accounts,
    token_hash   bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    tenant_id    uuid NOT NULL REFERENCES tenants,
    admin_key_id uuid REFERENCES admin_keys,
    return_url   text CHECK (octet_length(return_url) BETWEEN 1 AND 2000),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, token_hash)
);

-- Finds the row of a token. Not unique, because two tokens with the same SHA-256 do not occur.
CREATE INDEX dashboard_links_token ON dashboard_links (token_hash);
-- For the deletion of expired links of all accounts.
CREATE INDEX dashboard_links_expiry ON dashboard_links (expires_at, account_id);

COMMENT ON TABLE dashboard_links IS
    'Links that open a session. The tenant''s backend creates them. A link is deleted when it is used.';
COMMENT ON COLUMN dashboard_links.token_hash IS 'SHA-256 of the token in the link.';
COMMENT ON COLUMN dashboard_links.admin_key_id IS
    'The admin key that made the link. The link is dead once the key is revoked. The permissions of '
    'the key decide what its session gives. NULL: the link was not made with an admin key.';
COMMENT ON COLUMN dashboard_links.return_url IS
    'Where the dashboard''s link back to the platform leads.';

CREATE TABLE dashboard_sessions (
    account_id   uuid NOT NULL REFERENCES accounts,
    session_id   uuid NOT NULL,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    token_hash   bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    way          text NOT NULL CHECK (way IN ('dashboard_link', 'wallet')),
    admin_key_id uuid REFERENCES admin_keys,
    return_url   text CHECK (octet_length(return_url) BETWEEN 1 AND 2000),
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, session_id)
) WITH (fillfactor = 80);

CREATE INDEX dashboard_sessions_token ON dashboard_sessions (token_hash);
-- For the deletion of expired sessions of all accounts.
CREATE INDEX dashboard_sessions_expiry ON dashboard_sessions (expires_at, account_id);

COMMENT ON TABLE dashboard_sessions IS
    'Open sessions. Each belongs to one account. A session is deleted when it is closed.';
COMMENT ON COLUMN dashboard_sessions.session_id IS 'The first 16 bytes of token_hash.';
COMMENT ON COLUMN dashboard_sessions.token_hash IS 'SHA-256 of the token in the cookie.';
COMMENT ON COLUMN dashboard_sessions.way IS 'How the session was opened.';
COMMENT ON COLUMN dashboard_sessions.admin_key_id IS
    'The admin key that made the link. The session is dead once the key is revoked. The permissions '
    'of the key decide what the session gives. NULL: the session was opened by a wallet, or by a link that was '
    'not made with an admin key.';
COMMENT ON COLUMN dashboard_sessions.last_seen_at IS
    'Time of the last request, updated at most once a minute. The session ends after 30 minutes without a '
    'request.';
COMMENT ON COLUMN dashboard_sessions.expires_at IS 'When the session ends at the latest.';

CREATE TABLE dashboard_forms (
    account_id uuid NOT NULL,
    session_id uuid NOT NULL,
    form_hash  bytea NOT NULL CHECK (octet_length(form_hash) = 32),
    PRIMARY KEY (account_id, session_id, form_hash),
    FOREIGN KEY (account_id, session_id) REFERENCES dashboard_sessions (account_id, session_id)
        ON DELETE CASCADE
);

COMMENT ON TABLE dashboard_forms IS
    'Forms that were submitted and created a key. Submitting such a form again does not create a second key.';
COMMENT ON COLUMN dashboard_forms.form_hash IS 'SHA-256 of the token in the form.';

-- A sign-in belongs to a tenant and not to an account, because the account may not exist yet.
CREATE TABLE dashboard_sign_ins (
    tenant_id    uuid NOT NULL REFERENCES tenants,
    nonce_hash   bytea NOT NULL CHECK (octet_length(nonce_hash) = 32),
    address      text NOT NULL CHECK (octet_length(address) BETWEEN 1 AND 128),
    browser_hash bytea NOT NULL CHECK (octet_length(browser_hash) = 32),
    host         text NOT NULL,
    client       text NOT NULL,
    network_56   text,
    network_48   text,
    issued_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    spent_at     timestamptz,
    PRIMARY KEY (tenant_id, nonce_hash),
    CONSTRAINT dashboard_sign_ins_networks CHECK (num_nulls(network_56, network_48) IN (0, 2))
);

-- For the limits on recent sign-ins of a client and its networks, and for the deletion of old rows.
CREATE INDEX dashboard_sign_ins_client ON dashboard_sign_ins (tenant_id, client, issued_at);
CREATE INDEX dashboard_sign_ins_network_56 ON dashboard_sign_ins (tenant_id, network_56, issued_at)
    WHERE network_56 IS NOT NULL;
CREATE INDEX dashboard_sign_ins_network_48 ON dashboard_sign_ins (tenant_id, network_48, issued_at)
    WHERE network_48 IS NOT NULL;
CREATE INDEX dashboard_sign_ins_issued ON dashboard_sign_ins (tenant_id, issued_at);

COMMENT ON TABLE dashboard_sign_ins IS
    'Messages to sign that were issued in the last minutes, including those that were already answered.';
COMMENT ON COLUMN dashboard_sign_ins.nonce_hash IS 'SHA-256 of the nonce in the message.';
COMMENT ON COLUMN dashboard_sign_ins.address IS 'The account that is claimed: a TRON address.';
COMMENT ON COLUMN dashboard_sign_ins.browser_hash IS
    'SHA-256 of the token in a cookie: only the browser that started the sign-in can complete it.';
COMMENT ON COLUMN dashboard_sign_ins.host IS 'The host that the message names.';
COMMENT ON COLUMN dashboard_sign_ins.client IS
    'The client that the limits count: an IPv4 address, or the first 64 bits of an IPv6 address.';
COMMENT ON COLUMN dashboard_sign_ins.network_56 IS
    'The first 56 bits of an IPv6 address, which the limits count too. NULL: not an IPv6 address.';
COMMENT ON COLUMN dashboard_sign_ins.network_48 IS
    'The first 48 bits of an IPv6 address, which the limits count too. NULL: not an IPv6 address.';
COMMENT ON COLUMN dashboard_sign_ins.spent_at IS
    'When the message was answered, with a valid signature or not. A message can be answered once.';
