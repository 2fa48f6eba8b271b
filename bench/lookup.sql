-- Looks up a random key out of the keys 0 to :keys - 1. The statement in src/store/lookups/rows.rs selects
-- these columns, the rate limits and the networks, for several keys.
\set number random(0, :keys - 1)
SELECT k.tenant_id, k.key_id, k.scopes, k.enabled, k.expires_at,
       k.revoked_at, a.external_id, a.status, clock_timestamp() AS now
FROM api_keys k JOIN accounts a USING (account_id)
WHERE k.key_hash = sha256(convert_to('ta_' || lpad(:number::text, 43, '0'), 'UTF8'));
