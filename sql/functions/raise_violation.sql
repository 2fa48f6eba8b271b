-- Raises an error with the fields of a constraint violation, so that the program maps the errors of
-- triggers and of constraints to refusals in one place (src/store/error.rs).
CREATE OR REPLACE FUNCTION raise_violation(violated text, explanation text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING
        ERRCODE = 'check_violation', CONSTRAINT = violated, MESSAGE = explanation;
END
$$;
