-- Ends the dashboard sessions of an account when it is suspended. As a trigger it also runs for a
-- suspension by hand. A later link or sign-in opens a new session.
CREATE OR REPLACE FUNCTION end_sessions_of_suspended() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM end_dashboard_sessions(NEW.account_id);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER accounts_end_sessions AFTER UPDATE OF status ON accounts
    FOR EACH ROW WHEN (OLD.status <> 'suspended' AND NEW.status = 'suspended')
    EXECUTE FUNCTION end_sessions_of_suspended();
