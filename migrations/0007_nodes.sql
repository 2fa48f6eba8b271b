-- The nodes that use this database. A node answers from its cache only while it holds a lease.
CREATE TABLE nodes (
    node_id          uuid PRIMARY KEY,
    renewal          bigint NOT NULL,
    lease_ms         integer NOT NULL CHECK (lease_ms BETWEEN 100 AND 10000),
    lease_expires_at timestamptz NOT NULL
);

COMMENT ON COLUMN nodes.renewal IS
    'Number of the newest renewal. If it stays the same for the length of the lease, the lease of the node '
    'has ended.';
COMMENT ON COLUMN nodes.lease_ms IS
    'Length of the lease, counted from just before the node sent the renewal.';
COMMENT ON COLUMN nodes.lease_expires_at IS
    'For operators only, by the database''s clock. No decision uses it, because that clock can be set.';
