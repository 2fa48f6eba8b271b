-- Gives a node shares of rate limits, and takes back calls that it returns. An ask is one element of each
-- array. No two asks have the same row.
--
-- p_owner is the key, the account or the tenant whose settings p_generation counts. p_least is the smallest
-- share that helps, or 0 if the node only returns and reports. p_spent and p_returned belong to the window
-- p_number: the calls that the node has spent since its last report, and the calls that it gives back.
--
-- An ask whose p_generation is not the current one is answered with number NULL and share 0, but its report
-- counts. An ask gets no row if another node has just begun the window, so the node has to ask again. share
-- is the number of calls that the ask was given; given and spent are the sums of all nodes in the window, and
-- ends_in is the number of microseconds until it ends.
CREATE OR REPLACE FUNCTION share_rate_limits(
    p_tenant uuid[], p_account uuid[], p_holder uuid[], p_name text[], p_owner uuid[], p_generation bigint[],
    p_limit integer[], p_seconds integer[], p_wanted integer[], p_least integer[],
    p_number bigint[], p_spent integer[], p_returned integer[]
) RETURNS TABLE (
    account_id uuid, holder_id uuid, name text, number bigint, share integer, given integer, spent integer,
    ends_in bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_stale integer[];
    v_known integer[];
    v_now   timestamptz;
BEGIN
    -- All nodes lock the rows in the same order, so that they cannot deadlock.
    v_known := ARRAY(
        SELECT ask.place
        FROM unnest(p_account, p_holder, p_name) WITH ORDINALITY AS ask (account_id, holder_id, name, place)
        JOIN rate_limit_windows w
            ON w.account_id = ask.account_id AND w.holder_id = ask.holder_id AND w.name = ask.name
        ORDER BY w.account_id, w.holder_id, w.name
        FOR NO KEY UPDATE OF w);
    -- This reads the settings after the lock, so that no ask with older settings follows one with newer ones.
    v_stale := ARRAY(
        SELECT ask.place
        FROM unnest(p_tenant, p_account, p_owner, p_generation, p_least)
                 WITH ORDINALITY AS ask (tenant_id, account_id, owner_id, generation, least, place)
        LEFT JOIN api_keys k ON k.account_id = ask.account_id AND k.key_id = ask.owner_id
        LEFT JOIN accounts a ON a.account_id = ask.account_id AND a.account_id = ask.owner_id
        LEFT JOIN tenant_limits t ON t.tenant_id = ask.tenant_id
        WHERE ask.least > 0
          AND ask.generation <> coalesce(k.limits_generation, a.limits_generation, 0)
                                + coalesce(t.limits_generation, 0));
    v_now := clock_timestamp();

    RETURN QUERY
    SELECT ask.account_id, ask.holder_id, ask.name, NULL::bigint, 0, 0, 0, 0::bigint
    FROM unnest(p_account, p_holder, p_name) WITH ORDINALITY AS ask (account_id, holder_id, name, place)
    WHERE ask.place = ANY (v_stale) AND ask.place <> ALL (v_known);

    RETURN QUERY
    INSERT INTO rate_limit_windows AS w (
        account_id, holder_id, name, number, began_at, window_seconds, given, spent)
    SELECT ask.account_id, ask.holder_id, ask.name, (extract(epoch FROM v_now) * 1000000)::bigint, v_now,
           ask.seconds, rate_limit_grant(ask.calls, ask.wanted, ask.least), 0
    FROM unnest(p_account, p_holder, p_name, p_limit, p_seconds, p_wanted, p_least)
             WITH ORDINALITY AS ask (account_id, holder_id, name, calls, seconds, wanted, least, place)
    WHERE ask.place <> ALL (v_stale) AND ask.place <> ALL (v_known) AND ask.least > 0
    ORDER BY ask.account_id, ask.holder_id, ask.name
    ON CONFLICT DO NOTHING
    RETURNING w.account_id, w.holder_id, w.name, w.number, w.given, w.given, 0,
              w.window_seconds * 1000000::bigint;

    RETURN QUERY
    UPDATE rate_limit_windows AS w
    SET number = new.number, began_at = new.began_at, window_seconds = new.seconds,
        held = new.held, held_until = new.held_until,
        given = new.given + new.share, spent = new.spent
    FROM (
        SELECT ask.account_id, ask.holder_id, ask.name, ask.is_stale, after.*,
               rate_limit_grant(ask.calls - after.given, ask.wanted, ask.least) AS share
        FROM (
            SELECT ask.account_id, ask.holder_id, ask.name, ask.calls, ask.wanted, ask.number, ask.spent,
                   ask.returned, ask.place = ANY (v_stale) AS is_stale,
                   CASE WHEN ask.place = ANY (v_stale) THEN 0 ELSE ask.least END AS least,
                   CASE WHEN ask.place <> ALL (v_stale) AND ask.least > 0 THEN ask.seconds END AS seconds
            FROM unnest(p_account, p_holder, p_name, p_limit, p_seconds, p_wanted, p_least, p_number,
                        p_spent, p_returned)
                     WITH ORDINALITY AS ask (account_id, holder_id, name, calls, seconds, wanted, least,
                                             number, spent, returned, place)
            WHERE ask.place = ANY (v_known)
        ) AS ask
        JOIN rate_limit_windows old
            ON old.account_id = ask.account_id AND old.holder_id = ask.holder_id AND old.name = ask.name
        CROSS JOIN LATERAL rate_limit_window_after(
            old.number, old.began_at, old.window_seconds, old.given, old.spent, old.held, old.held_until, v_now,
            ask.seconds, ask.number, ask.spent, ask.returned) AS after
    ) AS new
    WHERE w.account_id = new.account_id AND w.holder_id = new.holder_id AND w.name = new.name
    RETURNING w.account_id, w.holder_id, w.name, CASE WHEN NOT new.is_stale THEN w.number END, new.share,
              w.given, w.spent,
              (extract(epoch FROM w.began_at - v_now) * 1000000)::bigint + w.window_seconds * 1000000::bigint;
END
$$;
