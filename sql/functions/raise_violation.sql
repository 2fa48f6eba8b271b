-- Raised by triggers as a violated constraint, so that one place in the program maps
-- both kinds to what the client is told.
CREATE OR REPLACE FUNCTION raise_violation(violated text, explanation text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'check_violation', CONSTRAINT = violated, MESSAGE = explanation;
END
$$;
