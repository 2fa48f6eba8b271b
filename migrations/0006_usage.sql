-- Usage of keys. It has tables of its own, because every lookup reads api_keys, and because rows of dead
-- keys never change.

CREATE TABLE api_key_usage (
    account_id uuid NOT NULL,
    key_id     uuid NOT NULL,
    hour       timestamptz NOT NULL
        CONSTRAINT api_key_usage_whole_hour CHECK (hour = date_trunc('hour', hour, 'UTC')),
    outcome    text NOT NULL CHECK (outcome IN (
        'valid', 'revoked', 'expired', 'disabled', 'account_suspended', 'insufficient_scope')),
    count      bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (account_id, key_id, hour, outcome),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

COMMENT ON TABLE api_key_usage IS
    'Counts of verifications, for reports. Nodes write them in batches after the verifications. A node that '
    'is killed loses the counts that it has not written.';
COMMENT ON COLUMN api_key_usage.hour IS 'The start of the hour, in UTC.';
COMMENT ON COLUMN api_key_usage.outcome IS
    'The result of the verification: valid, or the reason of the denial.';
COMMENT ON COLUMN api_key_usage.count IS 'Number of verifications on all nodes.';

CREATE TABLE api_key_last_used (
    account_id   uuid NOT NULL,
    key_id       uuid NOT NULL,
    last_used_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, key_id),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

COMMENT ON TABLE api_key_last_used IS
    'When keys were last used. A key that has never passed has no row.';
COMMENT ON COLUMN api_key_last_used.last_used_at IS
    'When the key last passed. Each node updates it at most once a minute.';
