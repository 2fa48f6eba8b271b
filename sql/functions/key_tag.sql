-- Returns the tag that names a key in notifications between nodes: the first eight bytes of its hash, in
-- hexadecimal. KeyHash::tag in src/domain/api_key.rs computes the same tag.
CREATE OR REPLACE FUNCTION key_tag(p_key_hash bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT encode(substring(p_key_hash FROM 1 FOR 8), 'hex')
$$;
