-- Gives a node shares of rate limits, and takes back calls that it returns. An ask is one element of each
-- array. No two asks have the same row.
--
-- p_owner is the key, the account or the tenant whose settings p_generation counts. p_least is the smallest
-- share that helps, or 0 if the node only returns and reports. p_spent and p_returned belong to the window
-- p_number: the calls that the node has spent since its last report, and the calls that it gives back.
--
-- An ask whose p_generation is not the current one is answered with number NULL and share 0, but its report
-- counts. An ask gets no row if its window has been deleted, so the node has to ask for a new window, with
-- p_number NULL. share is the number of calls that the ask was given; given and spent are the sums of all
-- nodes in the window, and ends_in is the number of microseconds until it ends.
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
    v_now    timestamptz := clock_timestamp();
    v_number bigint := extract(epoch FROM v_now) * 1000000;
    v_inserted bigint := 0;
    -- The asks whose rows this statement has inserted.
    v_begun  bigint[] := '{}';
    -- The other asks whose rows exist, the rows, and their ctids. A row that is locked keeps its ctid.
    v_known  bigint[];
    v_rows   rate_limit_windows[];
    v_ctids  tid[];
    v_stale  bigint[];
BEGIN
    -- A node that knows no window usually asks for the first one. Rows are inserted before existing rows are
    -- locked, so that a statement that holds such locks never waits for an insert of another one. If another
    -- statement begins or changes the window, this waits until it has ended. So an ask with older settings does
    -- not follow one with newer ones.
    IF array_position(p_number, NULL) IS NOT NULL THEN
        RETURN QUERY
        INSERT INTO rate_limit_windows AS w (
            account_id, holder_id, name, number, began_at, window_seconds, given, spent)
        SELECT ask.account_id, ask.holder_id, ask.name, v_number, v_now, ask.seconds,
               rate_limit_grant(ask.calls, ask.wanted, ask.least), 0
        FROM unnest(p_tenant, p_account, p_holder, p_name, p_owner, p_generation, p_limit, p_seconds, p_wanted,
                    p_least, p_number)
                 AS ask (tenant_id, account_id, holder_id, name, owner_id, generation, calls, seconds, wanted,
                         least, number)
        CROSS JOIN LATERAL limits_generation(ask.tenant_id, ask.account_id, ask.owner_id) AS current
        WHERE ask.number IS NULL AND ask.least > 0 AND ask.generation = current.generation
        ORDER BY ask.account_id, ask.holder_id, ask.name COLLATE "C"
        ON CONFLICT DO NOTHING
        RETURNING w.account_id, w.holder_id, w.name, w.number, w.given, w.given, 0,
                  w.window_seconds * 1000000::bigint;
        GET DIAGNOSTICS v_inserted = ROW_COUNT;
        IF v_inserted = cardinality(p_account) THEN
            RETURN;
        END IF;
        v_begun := ARRAY(
            SELECT ask.place
            FROM unnest(p_account, p_holder, p_name, p_number)
                     WITH ORDINALITY AS ask (account_id, holder_id, name, number, place)
            CROSS JOIN LATERAL (
                SELECT FROM rate_limit_windows w
                WHERE w.account_id = ask.account_id AND w.holder_id = ask.holder_id AND w.name = ask.name
                  AND w.xmin = pg_current_xact_id()::xid
                LIMIT 1) AS begun
            WHERE ask.number IS NULL);
    END IF;

    -- All nodes lock the rows in the order of the asks in the subquery, so that they cannot deadlock. LIMIT makes
    -- Postgres look up each row by the index, even if it planned the statement while there was no row.
    SELECT coalesce(array_agg(locked.place), '{}'), array_agg(locked.old), array_agg(locked.ctid)
    INTO v_known, v_rows, v_ctids
    FROM (
        SELECT ask.place, held.old, held.ctid
        FROM (SELECT * FROM unnest(p_account, p_holder, p_name)
                                WITH ORDINALITY AS ask (account_id, holder_id, name, place)
              WHERE place <> ALL (v_begun)
              ORDER BY account_id, holder_id, name COLLATE "C") AS ask
        CROSS JOIN LATERAL (
            SELECT w AS old, w.ctid FROM rate_limit_windows w
            WHERE w.account_id = ask.account_id AND w.holder_id = ask.holder_id AND w.name = ask.name
            LIMIT 1 FOR NO KEY UPDATE) AS held) AS locked;
    -- This reads the settings after the lock, so that no ask with older settings follows one with newer ones.
    v_stale := ARRAY(
        SELECT ask.place
        FROM unnest(p_tenant, p_account, p_owner, p_generation, p_least)
                 WITH ORDINALITY AS ask (tenant_id, account_id, owner_id, generation, least, place)
        CROSS JOIN LATERAL limits_generation(ask.tenant_id, ask.account_id, ask.owner_id) AS current
        WHERE ask.least > 0 AND ask.place <> ALL (v_begun) AND ask.generation <> current.generation);
    v_now := clock_timestamp();
    v_number := extract(epoch FROM v_now) * 1000000;

    IF cardinality(v_stale) > 0 THEN
        RETURN QUERY
        SELECT p_account[place], p_holder[place], p_name[place], NULL::bigint, 0, 0, 0, 0::bigint
        FROM unnest(v_stale) AS place WHERE place <> ALL (v_known);
    END IF;

    IF cardinality(v_known) > 0 THEN
        RETURN QUERY
        UPDATE rate_limit_windows AS w
        SET number = new.number, began_at = new.began_at, window_seconds = new.seconds,
            held = new.held, held_until = new.held_until,
            given = new.given + new.share, spent = new.spent
        FROM (
            SELECT after.*, rate_limit_grant(after.calls - after.given, after.wanted, after.least) AS share
            FROM (
                SELECT ask.ctid, ask.is_stale, ask.calls, ask.wanted, ask.least, after.*
                FROM (
                    SELECT known.*, known.place = ANY (v_stale) AS is_stale,
                           p_limit[known.place] AS calls, p_wanted[known.place] AS wanted,
                           CASE WHEN known.place = ANY (v_stale) THEN 0 ELSE p_least[known.place] END AS least
                    -- The other columns are those of the row.
                    FROM unnest(v_known, v_ctids, v_rows) AS known (place, ctid)
                ) AS ask
                CROSS JOIN LATERAL rate_limit_window_after(
                    ask.number, ask.began_at, ask.window_seconds, ask.given, ask.spent, ask.held,
                    ask.held_until, v_now, v_number, CASE WHEN ask.least > 0 THEN p_seconds[ask.place] END,
                    p_number[ask.place], p_spent[ask.place], p_returned[ask.place]) AS after
                -- OFFSET 0 prevents Postgres from computing an expression again wherever it is used.
                OFFSET 0
            ) AS after
            OFFSET 0
        ) AS new
        WHERE w.ctid = new.ctid
        RETURNING w.account_id, w.holder_id, w.name, CASE WHEN NOT new.is_stale THEN w.number END, new.share,
                  w.given, w.spent,
                  (extract(epoch FROM w.began_at - v_now) * 1000000)::bigint
                  + w.window_seconds * 1000000::bigint;
    END IF;
END
$$;
