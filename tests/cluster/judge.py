"""Compares the rows of the primary with the responses that the clients received."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import psycopg

from record import Purchase, Record

# The digits of an id, after its prefix. Each digit encodes five bits of the UUID.
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"

PURCHASES = """
    SELECT purchase_id, reference, amount FROM purchases JOIN accounts USING (account_id) WHERE external_id = %s
"""
RECORDS = """
    SELECT idempotency_key, cause_id FROM idempotency_records JOIN accounts USING (account_id)
    WHERE external_id = %s AND operation = 'purchase'
"""
BALANCE = """
    SELECT balance, (SELECT sum(amount) FROM ledger_entries entry WHERE entry.account_id = account.account_id)
    FROM accounts account WHERE external_id = %s
"""


def judge(url: str, record: Record, accounts: Sequence[str], start: int) -> list[str]:
    """Returns all differences. `start` is the balance of each account before the first purchase, in minor units."""
    faults: list[str] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for account in accounts:
            purchases = [purchase for purchase in record.purchases if purchase.account == account]
            faults += judge_account(connection, account, purchases, start)
        faults += judge_keys(connection, record)
    return faults


def judge_account(
    connection: psycopg.Connection[Any], account: str, purchases: list[Purchase], start: int
) -> list[str]:
    rows = connection.execute(PURCHASES, [account]).fetchall()
    known = {purchase.idempotency_key: purchase for purchase in purchases}
    amounts = {row[0]: row[2] for row in rows}
    causes = dict(connection.execute(RECORDS, [account]).fetchall())
    faults = []
    for reference, number in Counter(row[1] for row in rows).items():
        if number > 1:
            faults.append(f"doubled: {account} has {number} purchases of {reference}")
        if reference not in known:
            faults.append(f"{account} has the purchase {reference}, which no client requested")
    for purchase in purchases:
        if purchase.id is None:
            continue
        stored = uuid_of(purchase.id)
        if amounts.get(stored) != purchase.amount:
            faults.append(f"lost: {account} has no purchase {purchase.id} of {purchase.idempotency_key}")
        if causes.get(purchase.idempotency_key) != stored:
            faults.append(f"lost: {account} has no record of {purchase.idempotency_key} for {purchase.id}")
    row = connection.execute(BALANCE, [account]).fetchone()
    acknowledged = sum(purchase.amount for purchase in purchases if purchase.id is not None)
    references = {row[1] for row in rows}
    unknown = sum(
        purchase.amount for purchase in purchases if purchase.id is None and purchase.idempotency_key in references
    )
    expected = start - acknowledged - unknown
    if row is None or row[0] != expected or row[1] != expected:
        faults.append(f"the balance and the sum of entries of {account} are {row} instead of {expected}")
    return faults


def judge_keys(connection: psycopg.Connection[Any], record: Record) -> list[str]:
    faults = []
    for table, column, ids in (
        ("api_keys", "key_id", [key.id for key in record.revoked]),
        ("admin_keys", "admin_key_id", record.revoked_admin_keys),
    ):
        statement = f"SELECT {column} FROM {table} WHERE revoked_at IS NOT NULL"
        revoked = {row[0] for row in connection.execute(statement.encode())}
        faults += [f"lost: the revocation of {key}" for key in ids if uuid_of(key) not in revoked]
    return faults


def uuid_of(public_id: str) -> uuid.UUID:
    """Decodes the UUID in an id such as pur_01m8a2ac3nexhb51tqbrtckmgs."""
    number = 0
    for digit in public_id.rpartition("_")[2]:
        number = number * 32 + DIGITS.index(digit)
    return uuid.UUID(int=number)
