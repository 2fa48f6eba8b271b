-- Returns an outcome with this result for each of p_count operations.
CREATE OR REPLACE FUNCTION ledger_same_outcomes(p_result text, p_count integer)
RETURNS ledger_outcome[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(ledger_outcome(place => place, result => p_result) ORDER BY place)
    FROM generate_series(1, p_count) AS place
$$;
