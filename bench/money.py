"""Measures the cost of purchases in batches against the cost of one transaction for each purchase."""

from contextlib import contextmanager, nullcontext

import ledgers
from database import KEYS_PER_ACCOUNT
from measure import Sample, Side, compare
from processes import Broken
from servers import CONNECTIONS, HERE, measure_with_wrk, tollgate_serve

CLIENTS = 16
# The batch size for the pair that compares lengths of ledgers.
BATCH = 50
MISSES = 'tollgate_cache_lookups_total{result="miss"}'


def purchases(bench, pair, target=None, *, accounts=1, connections=CONNECTIONS, clients=CLIENTS, keyed=False):
    """Measures the whole service with purchases of one account, or of many accounts at random."""
    against = naive_side(bench, accounts, clients)
    # With more threads than half of the cores, the threads of the service would compete with Postgres
    # for CPU time.
    workers = max(1, len(bench.cores.usable) // 2)

    @contextmanager
    def ours(build):
        database = ledgers.with_balances(bench.postgres, build)
        url = bench.postgres.url(database)
        place = {"workers": workers, "cache_entries": 100_000}
        with tollgate_serve(bench.workplace, build, build.process("server"), url, **place) as server:
            server.check()
            server.warm(range(0, accounts * KEYS_PER_ACCOUNT, KEYS_PER_ACCOUNT))
            missed = server.metric(MISSES)
            label = build.label("tollgate serve")
            side = service_side(bench, database, label, server, accounts, connections, keyed)
            yield side
            missed = server.metric(MISSES) - missed
        side.notes.append(f"{build.label(pair)}: {missed:,.0f} lookups of evicted keys.")
        command = [build.program("tollgate"), "ledger", "verify"]
        bench.workplace.run("verify", command, environment={"DATABASE_URL": url})

    return compare(bench, pair, target, ours, lambda: nullcontext([against]))


def batch(bench, pair, size, target=None, *, clients=CLIENTS):
    """Measures only the function in the database, on one connection."""

    def ours(build):
        database = ledgers.with_balances(bench.postgres, build)
        return nullcontext(batch_side(bench, build, database, f"batches of {size}", size))

    return compare(bench, pair, target, ours, lambda: nullcontext([naive_side(bench, clients=clients)]))


def batch_latency(bench, pair):
    """Measures how much slower a batch with a single purchase is than a naive transaction."""
    # Tollgate's latency may be up to 1.3 times the latency of the naive transaction.
    outcome = batch(bench, pair, 1, 1 / 1.3, clients=1)
    ours, against = outcome.measured[0], outcome.measured[-1]
    millis = [1000 / side.median("answers_per_second") for side in (ours, against)]
    outcome.notes.append(f"{pair}: {millis[0]:.2f} ms per purchase, against {millis[1]:.2f} ms.")
    return outcome


def ledger_size(bench, pair):
    """Measures whether the number of earlier purchases of an account affects the rate."""

    def database(build):
        # The measurement makes a short ledger longer, so the warm-up and each round use a new ledger.
        return ledgers.with_lengths(bench.postgres, build, 1 + bench.settings.rounds)

    def ours(build):
        label = f"after {ledgers.MANY_ENTRIES:,} entries"
        return nullcontext(batch_side(bench, build, database(build), label, BATCH))

    def against():
        label = f"after {ledgers.FEW_ENTRIES:,} entries"
        build = bench.current
        side = batch_side(bench, build, database(build), label, BATCH, account_of=lambda seed: 1 + seed)
        return nullcontext([side])

    return compare(bench, pair, 0.90, ours, against)


def service_side(bench, database, label, server, accounts, connections, keyed):
    """Returns the service under load from wrk. The run fails if a confirmed purchase is not in the ledger."""

    def measure(seconds, seed):
        before = ledgers.entries(bench.postgres, database)
        script = ["purchases.lua", "keyed" if keyed else "bare", accounts, KEYS_PER_ACCOUNT, seed]
        sample = measure_with_wrk(bench.workplace, server, "/v1/purchases", script, seconds, connections=connections)
        # This number can exceed the number of responses, because wrk does not wait for the last
        # responses.
        made = ledgers.entries(bench.postgres, database) - before
        if made < sample.answers:
            raise Broken(f"{sample.answers:,} purchases got a response, but the ledger has only {made:,}")
        return sample

    return Side(label, measure)


def batch_side(bench, build, database, label, size, account_of=lambda _seed: 0):
    """Returns one client of pgbench that calls the function with batches of this many purchases."""
    script = build.script("batch.sql")

    def measure(seconds, seed):
        account, key = ledgers.ids(bench.postgres, database, account_of(seed))
        arguments = ["-f", script, "-D", f"size={size}", "-D", f"account={account}", "-D", f"key={key}"]
        return Sample(size * bench.postgres.pgbench(database, arguments, seconds, seed, clients=1))

    return Side(build.label(label), measure)


def naive_side(bench, accounts=1, clients=CLIENTS):
    """Clients of pgbench that run one transaction for each purchase."""
    database = ledgers.naive(bench.postgres)

    def measure(seconds, seed):
        arguments = ["-f", HERE / "naive.sql", "-D", f"accounts={accounts}"]
        return Sample(bench.postgres.pgbench(database, arguments, seconds, seed, clients))

    return Side("naive, 1 client" if clients == 1 else f"naive, {clients} clients", measure)
