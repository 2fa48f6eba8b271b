-- Ends all dashboard sessions of an account, regardless of how they were opened. Also deletes all unused
-- links, because such a link could open another session. The caller holds the account's lock. Creating or
-- using a link and opening a session take the same lock, so no link or session is left. Returns the number
-- of links and sessions.
CREATE OR REPLACE FUNCTION end_dashboard_sessions(
    p_account_id uuid, OUT links bigint, OUT sessions bigint
)
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM dashboard_links WHERE account_id = p_account_id;
    GET DIAGNOSTICS links = ROW_COUNT;
    DELETE FROM dashboard_sessions WHERE account_id = p_account_id;
    GET DIAGNOSTICS sessions = ROW_COUNT;
END
$$;
