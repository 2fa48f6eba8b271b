-- Returns the result of an operation of this kind that is done.
CREATE OR REPLACE FUNCTION ledger_result(p_kind text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_kind WHEN 'purchase' THEN 'purchased' WHEN 'hold' THEN 'held'
                       WHEN 'capture' THEN 'captured' ELSE 'voided' END
$$;
