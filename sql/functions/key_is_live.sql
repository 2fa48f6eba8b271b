-- Returns whether a key is live: neither revoked nor expired. At exactly p_expires_at a key is expired. A
-- disabled key is live. The planner inlines this function, so it costs nothing.
CREATE OR REPLACE FUNCTION key_is_live(
    p_revoked_at timestamptz, p_expires_at timestamptz, p_now timestamptz
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT p_revoked_at IS NULL AND (p_expires_at IS NULL OR p_expires_at > p_now)
$$;
