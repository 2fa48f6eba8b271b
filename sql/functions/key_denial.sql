-- Returns the reason why a key is refused, or NULL if it is accepted. If there are several reasons, returns
-- the first one. KeyState::judge in src/domain/verification.rs implements the same rule. The planner
-- inlines this function, so it costs nothing.
CREATE OR REPLACE FUNCTION key_denial(
    p_revoked_at timestamptz, p_expires_at timestamptz, p_enabled boolean, p_account_status text,
    p_now timestamptz, p_tenant_status text DEFAULT 'active'
) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_revoked_at IS NOT NULL THEN 'revoked'
        -- Here the key is not revoked, so a key that is not live has expired.
        WHEN NOT key_is_live(NULL, p_expires_at, p_now) THEN 'expired'
        WHEN NOT p_enabled THEN 'disabled'
        WHEN p_tenant_status <> 'active' THEN 'tenant_suspended'
        WHEN p_account_status <> 'active' THEN 'account_suspended'
    END
$$;
