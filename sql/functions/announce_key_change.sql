-- Notifies all nodes that keys changed. Nodes receive the notification if and when the transaction
-- commits. The payload is '<node> <number> <tag>,<tag>…'; src/store/nodes/sessions.rs reads it.
--
-- p_node is the node that made the change, and p_number its number of the change, which the other nodes
-- acknowledge. If p_node is NULL, no node waits for acknowledgements.
--
-- A payload is limited to 8000 bytes, so the tags are sent in parts. Only the last part has p_number:
-- acknowledging it acknowledges all parts. The others have 0.
CREATE OR REPLACE FUNCTION announce_key_change(p_node uuid, p_number bigint, p_tags text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    c_nobody CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    c_part   CONSTANT integer := 400;
    v_node   text := replace(coalesce(p_node, c_nobody)::text, '-', '');
    v_number bigint := 0;
BEGIN
    FOR v_first IN 1 .. cardinality(p_tags) BY c_part LOOP
        IF v_first + c_part > cardinality(p_tags) AND p_node IS NOT NULL THEN
            v_number := p_number;
        END IF;
        PERFORM pg_notify('tollgate_changes', concat_ws(' ', v_node, v_number,
            array_to_string(p_tags[v_first : v_first + c_part - 1], ',')));
    END LOOP;
END
$$;
