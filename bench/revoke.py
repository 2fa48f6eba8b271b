"""Measures how soon another node refuses a key after a change: a revocation, or a lower rate limit."""

import random
import threading
import time
from dataclasses import dataclass
from typing import Callable

from backend import Backend, rate_limit
from client import Connection, gated_request
from measure import Outcome, Row, bounded_row
from processes import Broken
from servers import tollgate_serve

KEYS = 300
# The lease in milliseconds. A change waits this long for a node that does not acknowledge it.
LEASE_MILLIS = 2000
TARGET_MILLIS = 20

# How long the requests continue after the change has returned. During this time, the other node
# must refuse every request.
AFTERWARDS_SECONDS = 0.02
GIVE_UP_SECONDS = 10
# The number of requests before the change. They make the other node cache the key.
PASSED_BEFORE = 10


@dataclass(frozen=True)
class Change:
    """A change after which all nodes refuse a key."""

    name: str
    # The settings of a new key.
    key: dict
    # Takes the backend and the key.
    make: Callable[[Backend, dict], None]
    # The status of the refusals.
    refusal: int


REVOCATION = Change("revocation", {}, Backend.revoke_key, 401)
# Before the change, the key makes more calls than the new limit allows.
LOWER_LIMIT = Change(
    "change of the limit",
    rate_limit(100_000),
    lambda backend, key: backend.change_key(key, **rate_limit(1)),
    429,
)


@dataclass
class Refused:
    """Measurements for one key, in milliseconds."""

    # From the start of the change to the first refusal by the other node.
    refused_after: float
    # From the start of the change to its response.
    returned_after: float
    # The number of requests that began after that response, and how many of them the other node
    # accepted.
    asked_afterwards: int
    passed_afterwards: int


class Asker(threading.Thread):
    """Sends requests with one key to the other node, one after another on one connection."""

    def __init__(self, connection, request):
        super().__init__(daemon=True)
        self._connection = connection
        self._request = request
        self._stopping = False
        # (begun, answered, status)
        self.answers = []
        self.error = None

    def run(self):
        try:
            while not self._stopping:
                begun = time.monotonic()
                status, _ = self._connection.ask(self._request)
                self.answers.append((begun, time.monotonic(), status))
        except Broken as error:
            self.error = error

    def wait_until(self, condition):
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not condition():
            if self.error is not None:
                raise self.error
            if time.monotonic() > deadline:
                raise Broken(f"the other node did not react to the key within {GIVE_UP_SECONDS} s")
            time.sleep(0.001)

    def stop(self):
        self._stopping = True
        self.join()


def measure(bench, pair, change):
    admin_key = bench.postgres.database_with_admin_key(bench.current, pair)
    database_url = bench.postgres.url(pair)
    with (
        tollgate_serve(bench.workplace, bench.current, "node-a", database_url, cache_entries=10_000) as node_a,
        tollgate_serve(bench.workplace, bench.current, "node-b", database_url, cache_entries=10_000) as node_b,
        Connection(node_a.port) as to_backend,
        Connection(node_a.port) as to_a,
        Connection(node_b.port) as to_b,
        Connection(node_b.port) as to_asker,
    ):
        backend = Backend(to_backend, admin_key)
        backend.create_account()
        refused = []
        for number in range(1, KEYS + 1):
            refused.append(change_one(backend, to_asker, [to_a, to_b], node_b.path, change))
            if number % 100 == 0:
                print(f"{pair}: {number} of {KEYS} keys", flush=True)
            # The random pause prevents changes from being synchronized with the periodic work of a
            # node.
            time.sleep(random.uniform(0, 0.02))
    return outcome(pair, change, refused)


def change_one(backend, to_asker, to_nodes, path, change):
    key = backend.create_key(**change.key)
    request = gated_request(path, key["key"])
    for connection in to_nodes:
        if connection.ask(request)[0] != 200:
            raise Broken("a new key was refused")
    asker = Asker(to_asker, request)
    asker.start()
    try:
        asker.wait_until(lambda: len(asker.answers) >= PASSED_BEFORE)
        sent = time.monotonic()
        change.make(backend, key)
        returned = time.monotonic()
        at_once = [connection.ask(request)[0] for connection in to_nodes]
        time.sleep(AFTERWARDS_SECONDS)
        asker.wait_until(lambda: asker.answers[-1][2] != 200)
    finally:
        asker.stop()
    if asker.error is not None:
        raise asker.error
    # An account can have only a few live keys.
    backend.revoke_key(key)
    return judge(change, asker.answers, sent, returned, at_once)


def judge(change, answers, sent, returned, at_once):
    strange = {status for _, _, status in answers} - {200, change.refusal}
    if strange:
        raise Broken(f"a key got unexpected statuses: {strange}")
    if any(status != 200 for _, answered, status in answers if answered < sent):
        raise Broken(f"the node refused a key before the {change.name}")
    first_refusal = next(answered for _, answered, status in answers if status == change.refusal)
    afterwards = [status for begun, _, status in answers if begun > returned] + at_once
    return Refused(
        refused_after=(first_refusal - sent) * 1000,
        returned_after=(returned - sent) * 1000,
        asked_afterwards=len(afterwards),
        passed_afterwards=sum(status == 200 for status in afterwards),
    )


def outcome(pair, change, measured):
    refused = sorted(one.refused_after for one in measured)
    returned = sorted(one.returned_after for one in measured)
    asked = sum(one.asked_afterwards for one in measured)
    passed = sum(one.passed_afterwards for one in measured)
    p99 = percentile(refused, 99)
    return Outcome(
        rows=[
            Row(
                pair,
                f"refused by another node after: {spread(refused)}",
                f"the lease: {LEASE_MILLIS} ms",
                f"{p99 / LEASE_MILLIS:.4f} (p99)",
                f"p99 ≤ {TARGET_MILLIS} ms",
                p99 <= TARGET_MILLIS,
            ),
            Row(pair, f"the {change.name} returned after: {spread(returned)}"),
            bounded_row(pair, f"accepted after the {change.name} had returned, of {asked:,}", passed, 0, "requests"),
        ]
    )


def spread(millis):
    return f"p50 {percentile(millis, 50):.2f} ms, p99 {percentile(millis, 99):.2f} ms, max {millis[-1]:.2f} ms"


def percentile(ordered, percent):
    """Returns the smallest value that at least this percentage of the values do not exceed."""
    return ordered[-(-len(ordered) * percent // 100) - 1]
