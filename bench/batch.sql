-- A batch of :size purchases of one account, in one call of the function that the service calls. The ids are
-- ordered by time, like the ids of the service. If the function declines a purchase, a division by zero ends
-- pgbench.
SELECT 1 / (count(*) = :size::integer)::integer
FROM (SELECT lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1e6)::bigint), 16, '0')
             || right(gen_random_uuid()::text, 12) AS start) AS ids
CROSS JOIN LATERAL ledger_apply(:account::uuid, gen_random_uuid(), 1, false,
    p_open_holds => 1000, p_key_holds => 200, p_purchase_scopes => '{write}', p_operations => ARRAY(
    SELECT ledger_operation(
        account_id => :account::uuid, kind => 'purchase',
        id => (start || lpad(to_hex(number), 4, '0'))::uuid, key_id => :key::uuid,
        request_id => :key::uuid, amount => 1, reference => 'order', metadata => '{}')
    FROM generate_series(1, :size::integer) AS number))
WHERE result = 'purchased';
