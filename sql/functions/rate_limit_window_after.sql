-- The window of a rate limit after a node has reported and returned calls, before it gets a new share.
--
-- The planner inlines this function.
--
-- p_new_number is the number of a window that begins now, unless the last number is not smaller. p_ask_number is
-- the window that p_ask_spent and p_ask_returned belong to.
--
-- A window that is over is followed by a new one, unless the node only reports (p_new_seconds is NULL). A
-- window whose length changes begins again, but keeps its number and its calls. If the clock is before the
-- beginning, because it was set back or because another server answers, the window begins now and keeps its
-- calls.
--
-- If a window becomes shorter, nodes that have not received the change may spend its calls (p_held) after its
-- new end, until their leases have ended. The longest lease lasts 10 s. A window that begins before then is
-- charged with these calls.
CREATE OR REPLACE FUNCTION rate_limit_window_after(
    p_number bigint, p_began_at timestamptz, p_seconds integer, p_given integer, p_spent integer,
    p_held integer, p_held_until timestamptz, p_now timestamptz,
    p_new_number bigint, p_new_seconds integer, p_ask_number bigint, p_ask_spent integer, p_ask_returned integer
) RETURNS TABLE (
    number bigint, began_at timestamptz, seconds integer, given integer, spent integer, held integer,
    held_until timestamptz)
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT
        CASE WHEN is_new THEN greatest(p_number + 1, p_new_number) ELSE p_number END,
        CASE WHEN is_new OR p_now < p_began_at OR p_seconds <> p_new_seconds THEN p_now ELSE p_began_at END,
        coalesce(p_new_seconds, p_seconds),
        CASE WHEN is_new AND p_now < p_held_until THEN p_held
            WHEN is_new THEN 0
            WHEN is_same THEN greatest(p_given - p_ask_returned, 0)
            ELSE p_given END,
        CASE WHEN is_new THEN 0 WHEN is_same THEN greatest(p_spent + p_ask_spent, 0) ELSE p_spent END,
        CASE WHEN is_shorter THEN greatest(p_given - p_spent, 0) ELSE p_held END,
        CASE WHEN is_shorter THEN p_now + interval '10 seconds'
            WHEN p_now < p_began_at THEN p_held_until - (p_began_at - p_now)
            ELSE p_held_until END
    FROM (VALUES (
        p_new_seconds IS NOT NULL AND p_now >= p_began_at + p_seconds * interval '1 second',
        p_ask_number IS NOT DISTINCT FROM p_number,
        p_new_seconds < p_seconds AND p_now < p_began_at + p_seconds * interval '1 second'
    )) AS facts (is_new, is_same, is_shorter);
END;
