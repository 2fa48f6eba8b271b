-- Returns the seq of the account's last entry before a time, or 0 if there is no such entry. A binary
-- search is possible because created_at never decreases as seq grows.
CREATE OR REPLACE FUNCTION ledger_seq_before(p_account_id uuid, p_moment timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low    bigint := 0;
    v_high   bigint;
    v_middle bigint;
BEGIN
    SELECT last_seq INTO v_high FROM accounts WHERE account_id = p_account_id;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high + 1) / 2;
        IF (SELECT created_at < p_moment FROM ledger_entries
            WHERE account_id = p_account_id AND seq = v_middle)
        THEN
            v_low := v_middle;
        ELSE
            v_high := v_middle - 1;
        END IF;
    END LOOP;
    RETURN v_low;
END
$$;
