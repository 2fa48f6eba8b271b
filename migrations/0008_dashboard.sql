-- The dashboard of a platform: how it looks, who may come in, and who is in. Of every token only the
-- SHA-256 is here. What is over is deleted as new rows are made.

CREATE TABLE portal_settings (
    tenant_id      uuid PRIMARY KEY REFERENCES tenants,
    name           text CHECK (char_length(name) BETWEEN 1 AND 60),
    color          text CHECK (color ~ '^#[0-9a-f]{6}$'),
    logo           bytea CHECK (octet_length(logo) BETWEEN 1 AND 32768),
    logo_hash      bytea CHECK (octet_length(logo_hash) = 32),
    logo_type      text CHECK (logo_type IN ('image/png', 'image/jpeg', 'image/webp')),
    return_origins text[] NOT NULL DEFAULT '{}' CHECK (cardinality(return_origins) <= 20),
    wallet_sign_in text NOT NULL DEFAULT 'off'
        CHECK (wallet_sign_in IN ('off', 'existing', 'create')),
    CONSTRAINT portal_settings_logo CHECK (
        num_nulls(logo, logo_hash, logo_type) IN (0, 3))
);

COMMENT ON TABLE portal_settings IS 'What a platform decided about its dashboard. No row: nothing.';
COMMENT ON COLUMN portal_settings.name IS 'What people read; NULL: the slug.';
COMMENT ON COLUMN portal_settings.logo_hash IS 'SHA-256 of logo: a part of the address where it is served.';
COMMENT ON COLUMN portal_settings.return_origins IS
    'Where a link back may lead: scheme, host, and the port that the scheme does not imply.';
COMMENT ON COLUMN portal_settings.wallet_sign_in IS
    'existing: to accounts that are there; create: an account is made at the first sign-in.';

CREATE TABLE portal_links (
    account_id uuid NOT NULL REFERENCES accounts,
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    tenant_id  uuid NOT NULL REFERENCES tenants,
    return_url text CHECK (octet_length(return_url) BETWEEN 1 AND 2000),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, token_hash)
);

-- How a token finds its row. Plain, as it could not be unique where the table is spread by account.
CREATE INDEX portal_links_token ON portal_links (token_hash);
-- What is over, whoever's it is.
CREATE INDEX portal_links_over ON portal_links (expires_at, account_id);

COMMENT ON TABLE portal_links IS
    'Links into the dashboard that a platform made for its user. One that was used is deleted.';
COMMENT ON COLUMN portal_links.token_hash IS 'SHA-256 of the token in the link.';
COMMENT ON COLUMN portal_links.return_url IS 'Where the dashboard leads back to.';

CREATE TABLE portal_sessions (
    account_id   uuid NOT NULL REFERENCES accounts,
    session_id   uuid NOT NULL,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    token_hash   bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    way          text NOT NULL CHECK (way IN ('portal_link', 'wallet')),
    return_url   text CHECK (octet_length(return_url) BETWEEN 1 AND 2000),
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, session_id)
) WITH (fillfactor = 80);

CREATE INDEX portal_sessions_token ON portal_sessions (token_hash);
-- What is over, whoever's it is.
CREATE INDEX portal_sessions_over ON portal_sessions (expires_at, account_id);

COMMENT ON TABLE portal_sessions IS
    'Browsers that are in the dashboard of one account. One that was closed is deleted.';
COMMENT ON COLUMN portal_sessions.session_id IS 'The first 16 bytes of token_hash.';
COMMENT ON COLUMN portal_sessions.token_hash IS 'SHA-256 of the token in the cookie.';
COMMENT ON COLUMN portal_sessions.way IS 'How it was opened.';
COMMENT ON COLUMN portal_sessions.last_seen_at IS
    'Of the last request, to the minute: without one for half an hour the session is over.';
COMMENT ON COLUMN portal_sessions.expires_at IS 'When it is over in any case.';

CREATE TABLE portal_forms (
    account_id uuid NOT NULL,
    session_id uuid NOT NULL,
    form_hash  bytea NOT NULL CHECK (octet_length(form_hash) = 32),
    PRIMARY KEY (account_id, session_id, form_hash),
    FOREIGN KEY (account_id, session_id) REFERENCES portal_sessions (account_id, session_id)
        ON DELETE CASCADE
);

COMMENT ON TABLE portal_forms IS
    'Forms that made a key in a session: sent again they make no second one.';
COMMENT ON COLUMN portal_forms.form_hash IS 'SHA-256 of the token in the form.';

-- Of a tenant, not of an account: that may not be there yet.
CREATE TABLE portal_sign_ins (
    tenant_id    uuid NOT NULL REFERENCES tenants,
    nonce_hash   bytea NOT NULL CHECK (octet_length(nonce_hash) = 32),
    address      text NOT NULL CHECK (octet_length(address) BETWEEN 1 AND 128),
    browser_hash bytea NOT NULL CHECK (octet_length(browser_hash) = 32),
    host         text NOT NULL,
    client       text NOT NULL,
    issued_at    timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    spent_at     timestamptz,
    PRIMARY KEY (tenant_id, nonce_hash)
);

-- How many there were of late.
CREATE INDEX portal_sign_ins_address ON portal_sign_ins (tenant_id, address, issued_at);
CREATE INDEX portal_sign_ins_client ON portal_sign_ins (tenant_id, client, issued_at);
CREATE INDEX portal_sign_ins_over ON portal_sign_ins (tenant_id, issued_at);

COMMENT ON TABLE portal_sign_ins IS
    'Messages that were given out to be signed: of the last minutes, the spent ones too.';
COMMENT ON COLUMN portal_sign_ins.nonce_hash IS 'SHA-256 of the nonce in the message.';
COMMENT ON COLUMN portal_sign_ins.address IS 'The account that is claimed: the TRON address.';
COMMENT ON COLUMN portal_sign_ins.browser_hash IS
    'SHA-256 of the token in a cookie: who began the sign-in has to end it.';
COMMENT ON COLUMN portal_sign_ins.host IS 'The host that the message names.';
COMMENT ON COLUMN portal_sign_ins.client IS
    'Who is counted: an IPv4 address, or the first 64 bits of an IPv6 address.';
COMMENT ON COLUMN portal_sign_ins.spent_at IS 'When it was answered, rightly or wrongly: only once.';
