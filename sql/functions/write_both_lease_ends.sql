-- Keeps `lease_expires_at` and `lease_ends_at` equal, because binaries of the previous version write only
-- the former, and binaries of this version write only the latter. If a statement writes both, the latter
-- takes precedence.
--
-- In alphabetical order, this name comes last among the functions that have triggers. So the loader locks
-- `nodes` after the other tables, and nodes can renew their leases while the loader waits for the other
-- locks.
CREATE OR REPLACE FUNCTION write_both_lease_ends() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.lease_ends_at := coalesce(NEW.lease_ends_at, NEW.lease_expires_at);
    ELSIF NEW.lease_ends_at IS NOT DISTINCT FROM OLD.lease_ends_at THEN
        NEW.lease_ends_at := NEW.lease_expires_at;
    END IF;
    NEW.lease_expires_at := NEW.lease_ends_at;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER nodes_write_both_lease_ends
    BEFORE INSERT OR UPDATE OF lease_expires_at, lease_ends_at ON nodes
    FOR EACH ROW EXECUTE FUNCTION write_both_lease_ends();
