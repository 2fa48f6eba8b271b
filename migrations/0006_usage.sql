-- How keys are used. In tables of their own: rows of api_keys are read by every look-up, and dead
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
    'Counts for people to look at: written late, in batches, and lost by a node that is killed.';
COMMENT ON COLUMN api_key_usage.hour IS 'The beginning of the hour, UTC.';
COMMENT ON COLUMN api_key_usage.outcome IS 'What was said of the key; valid: it passed.';
COMMENT ON COLUMN api_key_usage.count IS 'How often, on all nodes.';

CREATE TABLE api_key_last_used (
    account_id   uuid NOT NULL,
    key_id       uuid NOT NULL,
    last_used_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, key_id),
    FOREIGN KEY (account_id, key_id) REFERENCES api_keys (account_id, key_id)
);

COMMENT ON TABLE api_key_last_used IS 'Keys that have passed. One that never did has no row.';
COMMENT ON COLUMN api_key_last_used.last_used_at IS
    'When the key last passed, to the minute: it is not moved on by less than that.';
