"""Databases with balances: accounts that can buy, long ledgers, and naive tables."""

from database import KEYS_PER_ACCOUNT, ROWS_AT_ONCE, key_text

ACCOUNTS = 10_000
# The initial balance of each account in minor units. It exceeds the total spending of all measurements.
BALANCE = 10**15

# The numbers of entries in the long and the short ledgers. Both are in one database.
MANY_ENTRIES = 10_000_000
FEW_ENTRIES = 1_000

CREDIT_ACCOUNTS = """
    WITH credited AS (
        INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id, created_at)
        SELECT account_id, 1, 'credit', {balance}, {balance}, gen_random_uuid(), now() FROM accounts
        RETURNING *
    ), recorded AS (
        INSERT INTO credits (account_id, credit_id, seq, amount, created_at)
        SELECT account_id, cause_id, seq, amount, created_at FROM credited
    )
    UPDATE accounts SET balance = balance_after, last_seq = seq, last_entry_at = credited.created_at
    FROM credited WHERE accounts.account_id = credited.account_id
"""
# All purchases have the timestamp of the account's previous entry. Their ids are in ascending order, and
# smaller than ids of later times.
SEED_PURCHASES = """
    WITH buyer AS (
        SELECT account_id, key_id, balance, last_seq, last_entry_at AS at,
               lpad(to_hex((extract(epoch FROM last_entry_at) * 1e6)::bigint), 16, '0') AS start
        FROM accounts JOIN api_keys USING (account_id)
        WHERE {is_key}
    ), bought AS MATERIALIZED (
        SELECT account_id, key_id, last_seq + place AS seq, balance - place AS balance_after, at,
               (start || lpad(to_hex(last_seq + place), 16, '0'))::uuid AS id
        FROM buyer CROSS JOIN generate_series(1, {purchases}) AS place
    ), entries AS (
        INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id, key_id, created_at)
        SELECT account_id, seq, 'purchase', -1, balance_after, id, key_id, at FROM bought
    ), recorded AS (
        INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference, metadata, created_at)
        SELECT account_id, id, seq, key_id, 1, 'order', '{{}}', at FROM bought
    )
    UPDATE accounts SET balance = buyer.balance - {purchases}, last_seq = buyer.last_seq + {purchases}
    FROM buyer WHERE accounts.account_id = buyer.account_id
"""
NAIVE_TABLES = """
    CREATE TABLE naive_accounts (
        account_id bigint PRIMARY KEY,
        balance    bigint NOT NULL CHECK (balance >= 0),
        last_seq   bigint NOT NULL
    );
    CREATE TABLE naive_entries (
        account_id    bigint NOT NULL,
        seq           bigint NOT NULL,
        amount        bigint NOT NULL,
        balance_after bigint NOT NULL CHECK (balance_after >= 0),
        reference     text,
        created_at    timestamptz NOT NULL,
        PRIMARY KEY (account_id, seq)
    );
    INSERT INTO naive_accounts SELECT number, {balance}, 0 FROM generate_series(1, {accounts}) AS number
"""


def with_balances(postgres, build):
    """Creates a build's database, once. Each account in it has a balance and five keys."""

    def make(name):
        postgres.make_keys(build, name, ACCOUNTS * KEYS_PER_ACCOUNT)
        credit_accounts(postgres, build, name)

    content = build.label(f"{ACCOUNTS:,} accounts that can buy")
    return postgres.made_once(build.database("balances"), content, make)


def with_lengths(postgres, build, short):
    """Returns a build's database. Account 0 has a long ledger, and the accounts 1 to `short` have short ledgers."""

    def make(name):
        postgres.make_keys(build, name, (1 + short) * KEYS_PER_ACCOUNT)
        credit_accounts(postgres, build, name)
        for account in range(1, 1 + short):
            seed_purchases(postgres, build, name, account, FEW_ENTRIES - 1)
        seed_purchases(postgres, build, name, 0, MANY_ENTRIES - 1)

    content = build.label(f"a ledger of {MANY_ENTRIES:,} entries")
    return postgres.made_once(build.database("lengths"), content, make)


def naive(postgres):
    """Returns a database with the tables of the naive transaction."""

    def make(name):
        postgres.sql("postgres", f"CREATE DATABASE {name}")
        postgres.sql(name, NAIVE_TABLES.format(balance=BALANCE, accounts=ACCOUNTS))

    return postgres.made_once("naive", f"{ACCOUNTS:,} naive accounts", make)


def ids(postgres, database, account):
    """Returns the ids of an account and of its first key, given the number of the account."""
    statement = f"SELECT account_id, key_id FROM api_keys WHERE {is_key_of(account)}"
    return postgres.sql(database, statement).strip().split("|")


def entries(postgres, database):
    """Returns the number of ledger entries: the sum of the newest `seq` of all accounts."""
    return int(postgres.sql(database, "SELECT sum(last_seq) FROM accounts"))


def credit_accounts(postgres, build, database):
    statement = build.statement("ledgers.py", "CREDIT_ACCOUNTS", CREDIT_ACCOUNTS)
    postgres.sql(database, statement.format(balance=BALANCE))


def seed_purchases(postgres, build, database, account, purchases):
    statement = build.statement("ledgers.py", "SEED_PURCHASES", SEED_PURCHASES)
    for done in range(0, purchases, ROWS_AT_ONCE):
        of_statement = min(ROWS_AT_ONCE, purchases - done)
        postgres.sql(database, statement.format(is_key=is_key_of(account), purchases=of_statement))


def is_key_of(account):
    key = key_text(account * KEYS_PER_ACCOUNT)
    return f"key_hash = sha256(convert_to('{key}', 'UTF8'))"
