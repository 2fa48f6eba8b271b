-- Raises an error that looks like a violated constraint, so that the program maps errors of triggers and
-- of constraints to refusals in one place (src/store/error.rs).
CREATE OR REPLACE FUNCTION raise_violation(violated text, explanation text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'check_violation', CONSTRAINT = violated, MESSAGE = explanation;
END
$$;
