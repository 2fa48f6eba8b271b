"""Compares the ledger with the responses that the clients received, and prints the result."""

from __future__ import annotations

import csv
import io
from collections import Counter
from decimal import Decimal

from client import Client
from load import DECIMALS, OPENING, Load
from programs import Broken, Node
from record import Record

DIRECTIONS = ("old → old", "old → new", "new → old", "new → new")


def judge_ledger(load: Load, node: Node) -> tuple[list[str], list[str]]:
    """Returns the lost and the duplicated purchases. Call it only after the clients have stopped."""
    lost: list[str] = []
    doubled: list[str] = []
    client = Client()
    for account in load.accounts:
        answer = client.send(node, "GET", f"/v1/accounts/{account.name}/ledger.csv?order=asc", load.admin)
        if answer.status != 200:
            raise Broken(f"the statement of {account.name}: status {answer.status}")
        entries = list(csv.DictReader(io.StringIO(answer.body.decode())))
        amounts = {entry["cause_id"]: minor_units(entry["amount"]) for entry in entries}
        times = Counter(entry["cause_id"] for entry in entries if entry["kind"] == "purchase")
        bought = {
            purchase_id: purchase.amount
            for purchase_id, purchase in load.record.purchases.items()
            if purchase.account == account.name
        }
        for purchase_id, amount in bought.items():
            if times[purchase_id] == 0 or amounts[purchase_id] != -amount:
                lost.append(f"{purchase_id} of {account.name}")
        for purchase_id, count in times.items():
            if count > 1 or purchase_id not in bought:
                doubled.append(f"{purchase_id} of {account.name}")
        left = minor_units(OPENING) - sum(bought.values())
        if minor_units(entries[-1]["balance_after"]) != left:
            lost.append(f"the balance of {account.name} is {entries[-1]['balance_after']}")
    return lost, doubled


def minor_units(amount: str) -> int:
    return int(Decimal(amount).scaleb(DECIMALS))


def judge_revokes(record: Record, nodes: list[Node], path: str) -> None:
    """Sends a request with every revoked key to every node."""
    client = Client()
    for node in nodes:
        for key in record.revoked_keys:
            answer = client.send(node, "GET", path, {"X-API-Key": key})
            record.asked_after_revoke(answer.status, f"at the end, at node {node}")


def print_report(record: Record, lost: list[str], doubled: list[str], lease_millis: int) -> None:
    print(f"\n{'revoked at → waited for':<26}{'number':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name in DIRECTIONS:
        millis = sorted(revoke.seconds * 1000 for revoke in record.revokes if revoke.direction == name)
        if millis:
            figures = "".join(f"{percentile(millis, percent):>9.1f}" for percent in (50, 99, 100))
            print(f"{name:<26}{len(millis):>9,}{figures}")
    print(f"The lease is {lease_millis} ms.\n")
    for kind, count in sorted(record.requests.items()):
        print(f"{kind:<36}{count:>9,}")
    print()
    after = f"revoked keys accepted, of {record.asked_after_revokes:,}"
    rows = [
        ("failed requests", record.failures),
        (after, record.late_passes),
        ("lost purchases", lost),
        ("doubled purchases", doubled),
    ]
    for name, texts in rows:
        print(f"{name:<36}{len(texts):>9,}")
        for text in texts[:10]:
            print(f"    {text}")


def percentile(ordered: list[float], percent: int) -> float:
    """Returns the smallest value such that at least this percentage of the values are not greater."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
