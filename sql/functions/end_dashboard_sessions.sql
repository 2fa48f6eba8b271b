-- Ends all dashboard sessions of an account, however they were opened, and all links that were not used:
-- such a link could open another session. The caller holds the account's lock, under which links are
-- made and used and sessions are opened, so none is left. Returns how many of each there were.
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
