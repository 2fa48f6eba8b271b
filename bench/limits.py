"""Measures how many calls pass a rate limit that three nodes share."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from statistics import median

from backend import Backend, rate_limit
from client import Connection, gated_request
from measure import Outcome, Row
from processes import Broken
from servers import tollgate_serve

NODES = 3
LIMITS = (1000, 100, 7, 1)
# How many times the limit the clients call.
EXCESS = 10
# The number of concurrent calls.
CLIENTS = 16


def even(call, _calls):
    return call % NODES


def skewed(call, _calls):
    """99 % of the calls go to one node."""
    return 1 + call // 100 % (NODES - 1) if call % 100 == 50 else 0


def moving(call, calls):
    """All calls go to one node, later all to another, and later all to a third. The first two nodes get 9 % of
    the calls, so some calls of the limit are left for the third."""
    return 0 if call < calls * 0.05 else 1 if call < calls * 0.09 else 2


SPREADS = {"evenly": even, "99 % to one node": skewed, "to one node after another": moving}


def measure(bench, pair):
    admin_key = bench.postgres.database_with_admin_key(bench.current, pair)
    url = bench.postgres.url(pair)
    passed = {(limit, spread): [] for limit in LIMITS for spread in SPREADS}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                tollgate_serve(bench.workplace, bench.current, f"node-{number}", url, cache_entries=10_000)
            )
            for number in range(NODES)
        ]
        clients = [[stack.enter_context(Connection(node.port)) for node in nodes] for _ in range(CLIENTS)]
        backend = Backend(stack.enter_context(Connection(nodes[0].port)), admin_key)
        backend.create_account()
        for trial in range(1, bench.settings.rounds + 1):
            for (limit, spread), of_trials in passed.items():
                key = backend.create_key(**rate_limit(limit))
                request = gated_request(nodes[0].path, key["key"])
                of_trials.append(offer(clients, request, limit * EXCESS, SPREADS[spread]))
                # An account can have only a few live keys.
                backend.revoke_key(key)
            print(f"{pair}: trial {trial} of {bench.settings.rounds}", flush=True)
    return Outcome(rows=[row(pair, limit, spread, of_trials) for (limit, spread), of_trials in passed.items()])


def offer(clients, request, calls, node_of):
    """Makes the calls, several of them concurrently. Returns the number of calls that passed."""
    numbers = count()

    def call_repeatedly(to_nodes):
        passed = 0
        while (call := next(numbers)) < calls:
            status, _ = to_nodes[node_of(call, calls)].ask(request)
            if status not in (200, 429):
                raise Broken(f"a call with a rate limit got status {status}")
            passed += status == 200
        return passed

    with ThreadPoolExecutor(len(clients)) as pool:
        return sum(pool.map(call_repeatedly, clients))


def row(pair, limit, spread, passed):
    least = limit - limit // 100
    return Row(
        pair,
        f"limit {limit:,}: {min(passed):,} to {max(passed):,} passed, median {median(passed):,.0f}",
        f"{limit * EXCESS:,} calls, {spread}",
        target=f"{least:,} to {limit:,}" if least < limit else f"{limit:,}",
        met=least <= min(passed) and max(passed) <= limit,
    )
