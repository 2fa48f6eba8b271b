-- Refuses changes of a hold, except one: the hold is captured, voided or expires.
CREATE OR REPLACE FUNCTION check_hold_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status <> 'open' THEN
        PERFORM raise_violation('holds_closed_once', 'a hold is closed once');
    END IF;
    IF (NEW.account_id, NEW.hold_id, NEW.key_id, NEW.amount, NEW.reference, NEW.created_at, NEW.expires_at)
        IS DISTINCT FROM
        (OLD.account_id, OLD.hold_id, OLD.key_id, OLD.amount, OLD.reference, OLD.created_at, OLD.expires_at)
    THEN
        PERFORM raise_violation('holds_identity', 'a hold changes only by being closed');
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER holds_change BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION check_hold_change();
