-- Builds a ledger_key from named arguments. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_key(
    key_id       uuid DEFAULT NULL,
    spends_as    uuid DEFAULT NULL,
    denial       text DEFAULT NULL,
    spend_limit  bigint DEFAULT NULL,
    spend_period text DEFAULT NULL
) RETURNS ledger_key
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- In the order of the type's fields.
    SELECT ROW(key_id, spends_as, denial, spend_limit, spend_period)::ledger_key
$$;
