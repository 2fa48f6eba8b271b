-- Returns the part of a client's address that a tenant stores and sees, according to
-- dashboard_settings.client_addresses. NULL as the setting means that the tenant has no settings.
CREATE OR REPLACE FUNCTION client_address(p_setting text, p_address inet) RETURNS inet
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_setting
        WHEN 'off' THEN NULL
        WHEN 'truncated' THEN
            set_masklen(network(set_masklen(p_address, CASE family(p_address) WHEN 4 THEN 24 ELSE 48 END))::inet,
                        CASE family(p_address) WHEN 4 THEN 24 ELSE 48 END)
        ELSE p_address
    END
$$;
