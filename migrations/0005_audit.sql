CREATE TABLE audit_events (
    account_id   uuid NOT NULL,
    event_id     uuid NOT NULL,
    tenant_id    uuid NOT NULL REFERENCES tenants,
    actor        text NOT NULL CHECK (actor IN ('admin_key', 'cli', 'account_owner')),
    admin_key_id uuid REFERENCES admin_keys,
    action       text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),
    account      text,
    target_id    uuid,
    detail       json NOT NULL CHECK (json_typeof(detail) = 'object'),
    address      text,
    request_id   uuid,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, event_id),
    CHECK ((actor = 'admin_key') = (admin_key_id IS NOT NULL))
);

CREATE INDEX audit_events_tenant ON audit_events (tenant_id, event_id);
-- What was done to one key.
CREATE INDEX audit_events_target ON audit_events (tenant_id, target_id, event_id);

COMMENT ON TABLE audit_events IS
    'Who did what to which key or account, written in the transaction of the act. Append-only.';
COMMENT ON COLUMN audit_events.account_id IS
    'The account acted on; the tenant''s own id for an act on the tenant itself.';
COMMENT ON COLUMN audit_events.event_id IS 'UUIDv7: its order is that of the acts.';
COMMENT ON COLUMN audit_events.admin_key_id IS 'Which admin key acted.';
COMMENT ON COLUMN audit_events.account IS 'external_id of the account; NULL for an act on the tenant.';
COMMENT ON COLUMN audit_events.target_id IS
    'The API key, admin key or credit acted on; NULL when it is the account or the tenant itself.';
COMMENT ON COLUMN audit_events.detail IS 'What changed, by field. Never a key, never a hash.';
COMMENT ON COLUMN audit_events.address IS 'IP address of the peer; NULL at the command line.';
