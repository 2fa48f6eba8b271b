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
-- For the events of one key.
CREATE INDEX audit_events_target ON audit_events (tenant_id, target_id, event_id);

COMMENT ON TABLE audit_events IS
    'Who changed what. Written in the transaction of the change. Append-only.';
COMMENT ON COLUMN audit_events.account_id IS
    'The account that was changed. For a change of the tenant itself: tenant_id.';
COMMENT ON COLUMN audit_events.event_id IS 'UUIDv7, so that ids sort in the order of the events.';
COMMENT ON COLUMN audit_events.admin_key_id IS
    'The admin key that made the change. NULL: the actor used no admin key.';
COMMENT ON COLUMN audit_events.account IS
    'external_id of the account. NULL: the tenant itself was changed.';
COMMENT ON COLUMN audit_events.target_id IS
    'The API key, admin key, credit, refund or hold that the event is about. NULL: the account or the tenant '
    'itself.';
COMMENT ON COLUMN audit_events.detail IS
    'The changed fields. Never contains the text of a key or a hash.';
COMMENT ON COLUMN audit_events.address IS
    'IP address of the client. NULL: the change was made from the command line.';
