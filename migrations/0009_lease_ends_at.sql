-- `lease_expires_at` becomes `lease_ends_at`: keys expire, leases end. This is the expand step: the
-- previous version writes only the old column, this version only the new one. The trigger of
-- `write_both_lease_ends` keeps both equal. Both are nullable, because the trigger is created after
-- the migrations.

-- While this waits for a session that reads the table, such as a dump, no lease can be renewed. If
-- the wait ends by this timeout, the loader tries again after a pause.
SET LOCAL lock_timeout = '300ms';

ALTER TABLE nodes
    ADD COLUMN lease_ends_at timestamptz,
    ALTER COLUMN lease_expires_at DROP NOT NULL;

UPDATE nodes SET lease_ends_at = lease_expires_at;

COMMENT ON COLUMN nodes.lease_ends_at IS
    'For operators only, by the database''s clock. No decision uses it, because that clock can be set.';
COMMENT ON COLUMN nodes.lease_expires_at IS
    'The same as lease_ends_at. Only the previous version writes it; a later version drops it.';
