-- A batch of :size purchases of one account, in one call of the function that the service calls. Their
-- ids follow time, as the service's do. Unless all are made, it divides by zero: that ends pgbench.
SELECT 1 / (count(*) = :size::integer)::integer
FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1e6)::bigint), 16, '0')
             || right(gen_random_uuid()::text, 12) AS start) AS ids
CROSS JOIN LATERAL ledger_apply(:account::uuid, gen_random_uuid(), 1, false,
    p_open_holds => 1000, p_purchase_scopes => '{write,purchases:write}', p_operations => ARRAY(
    SELECT ROW(:account::uuid, 'purchase', (start || lpad(to_hex(number), 4, '0'))::uuid, :key::uuid,
               :key::uuid, 1, 'order', NULL, '{}', NULL, NULL, NULL, NULL)::ledger_operation
    FROM generate_series(1, :size::integer) AS number))
WHERE result = 'purchased';
