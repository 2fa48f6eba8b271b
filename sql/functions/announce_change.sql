-- Notifies all nodes of a change. Nodes receive the notification only if and when the transaction commits.
-- The payload is '<kind> <node> <number> <tenant> <tag>,<tag>…'. src/store/nodes/notices.rs parses it.
--
-- p_kind is one of
--   keys       API keys changed
--   account    the status of an account changed, which affects its live API keys and dashboard sessions
--   admin_key  an admin key was revoked, which ends the links that it created and their sessions
--   sessions   dashboard sessions or unused links of the tenant ended
--   limits     rate limits changed, of these API keys or, without tags, of the tenant
--   tenant     the status of the tenant or one of its plans changed, which affects all of its keys
-- p_tags are the tags of these API keys. Without tags, the payload ends after the tenant. If a node does not
-- know a kind, or cannot parse the words after the tenant, it drops all cached data and acknowledges the
-- change. So a version may add a kind, or words at the end, while nodes of the previous version run.
--
-- p_node is the node that made the change, and p_number is its number for the change, which the other nodes
-- acknowledge. If p_node is NULL, no node waits for acknowledgements.
--
-- A payload is limited to 8000 bytes, so the tags are sent in parts. Only the last part contains p_number,
-- and acknowledging it acknowledges all parts. The other parts contain 0.
--
-- Postgres acknowledges a transaction that only notifies without waiting for the synchronous standby. If a
-- node waits for the change, this must not happen, because a deposed primary would acknowledge a repeated
-- change that changes nothing. So the function writes a message into the write-ahead log. The message has
-- no other effect.
--
-- An operator can send the payload 'all' without a change. Every node then drops all cached data.
CREATE OR REPLACE FUNCTION announce_change(
    p_kind text, p_node uuid, p_number bigint, p_tenant uuid, p_tags text[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    c_nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    c_part   CONSTANT integer := 400;
    v_node   text := replace(coalesce(p_node, c_nobody)::text, '-', '');
    v_tenant text := replace(p_tenant::text, '-', '');
    v_number bigint := 0;
BEGIN
    IF p_node IS NOT NULL THEN
        PERFORM pg_logical_emit_message(true, 'tollgate', ''::text);
    END IF;
    FOR v_first IN 1 .. greatest(cardinality(p_tags), 1) BY c_part LOOP
        IF v_first + c_part > cardinality(p_tags) AND p_node IS NOT NULL THEN
            v_number := p_number;
        END IF;
        PERFORM pg_notify('tollgate_changes', concat_ws(' ', p_kind, v_node, v_number, v_tenant,
            nullif(array_to_string(p_tags[v_first : v_first + c_part - 1], ','), '')));
    END LOOP;
END
$$;
