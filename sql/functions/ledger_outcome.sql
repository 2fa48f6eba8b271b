-- Builds a ledger_outcome from named arguments. The planner inlines this function.
CREATE OR REPLACE FUNCTION ledger_outcome(
    place         bigint DEFAULT NULL,
    result        text DEFAULT NULL,
    replayed      boolean DEFAULT NULL,
    seq           bigint DEFAULT NULL,
    balance_after bigint DEFAULT NULL,
    decided_at    timestamptz DEFAULT NULL,
    cause_id      uuid DEFAULT NULL,
    required      bigint DEFAULT NULL,
    available     bigint DEFAULT NULL,
    spend_limit   bigint DEFAULT NULL,
    spend_period  text DEFAULT NULL,
    decided_for   uuid DEFAULT NULL,
    reason        text DEFAULT NULL
) RETURNS ledger_outcome
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    -- In the order of the type's fields.
    SELECT ROW(place, result, replayed, seq, balance_after, decided_at, cause_id, required, available,
               spend_limit, spend_period, decided_for, reason)::ledger_outcome
$$;
