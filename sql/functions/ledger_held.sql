-- Returns the amount that an account's open holds reserve now. p_held is accounts.held, which includes
-- expired holds until they are released.
CREATE OR REPLACE FUNCTION ledger_held(p_account_id uuid, p_held bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE p_held WHEN 0 THEN 0 ELSE p_held - (
        SELECT coalesce(sum(amount), 0)::bigint FROM holds
        WHERE account_id = p_account_id AND status = 'open'
          AND expires_at <= (SELECT ledger_now())) END
$$;
