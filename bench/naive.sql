-- Makes a naive purchase for a random account out of the accounts 1 to :accounts. One transaction locks the
-- account, inserts an entry, and updates the balance.
\set account random(1, :accounts)
BEGIN;
SELECT balance, last_seq FROM naive_accounts WHERE account_id = :account FOR UPDATE \gset
INSERT INTO naive_entries (account_id, seq, amount, balance_after, reference, created_at)
VALUES (:account, :last_seq::bigint + 1, -1, :balance::bigint - 1, 'order', clock_timestamp());
UPDATE naive_accounts SET balance = :balance::bigint - 1, last_seq = :last_seq::bigint + 1
WHERE account_id = :account;
COMMIT;
