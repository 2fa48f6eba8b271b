-- The running services on this database, each with its lease: the right to answer out of its cache.
CREATE TABLE nodes (
    node_id          uuid PRIMARY KEY,
    renewal          bigint NOT NULL,
    lease_ms         integer NOT NULL CHECK (lease_ms BETWEEN 100 AND 10000),
    lease_expires_at timestamptz NOT NULL
);

COMMENT ON COLUMN nodes.renewal IS
    'Counts the renewals: who sees the same number for as long as the lease has seen the lease end.';
COMMENT ON COLUMN nodes.lease_ms IS 'How long the lease holds from the moment before its renewal was sent.';
COMMENT ON COLUMN nodes.lease_expires_at IS
    'By the database''s clock, for people: nothing is decided by it, for that clock may be set.';
