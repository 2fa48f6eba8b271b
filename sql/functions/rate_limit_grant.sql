-- The planner inlines this function.
--
-- The number of calls in a new share: the demand, but between a 64th and an eighth of the calls that are
-- left, and at least p_least. If p_least is 0 or is not left, a share would help nobody.
CREATE OR REPLACE FUNCTION rate_limit_grant(p_left integer, p_wanted integer, p_least integer) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN p_least = 0 OR p_left < p_least THEN 0
    ELSE greatest(p_least, least(greatest(p_wanted, p_left / 64), p_left / 8))
END;
