"""What is compared with what. README.md says what each pair is for."""

import re
from dataclasses import dataclass

import attack
import ledgers
import money
import revoke
from database import Postgres
from measure import Outcome, Sample, Settings, Side, bounded_row, compare
from processes import BENCH_LOOKUPS, ROOT, Broken, Cores, Workplace
from servers import bench_server, haproxy, tollgate_serve, wrk_side

FEW_KEYS = 1_000
MANY_KEYS = 100_000
FIRST_KEYS = 50_000

# Beyond this share of answers that asked the database, a gate whose keys are all cached is not
# what was measured.
UNCACHED_SHARE = 0.01


@dataclass
class Bench:
    """What every pair needs."""

    workplace: Workplace
    postgres: Postgres
    cores: Cores
    settings: Settings

    def pins(self, worker_threads):
        """The cores of a server, and of who asks it."""
        return self.cores.split(worker_threads)


class Cached:
    """Makes sure that a server has answered out of its cache. Begins before the server does, and is
    asked after the server has ended."""

    def __init__(self, bench, database):
        self._bench = bench
        self._database = database
        self._before = bench.postgres.lookups(database)

    def check(self, outcome, warmed):
        looked_up = self._bench.postgres.lookups(self._database) - self._before
        ours = outcome.measured[0]
        answers = sum(sample.answers_per_second for sample in ours.samples) * self._bench.settings.seconds
        later = max(0, looked_up - warmed)
        if later > answers * UNCACHED_SHARE:
            raise Broken(f"{ours.label}: {later:,} look-ups beside {answers:,.0f} answers: not all was cached")
        outcome.notes.append(f"{ours.pair}: {later:,} look-ups in the database beside {answers:,.0f} answers.")


def gate(bench, pair, workers):
    """What the gate costs: the same server, the same requests, with it and without it."""
    database = bench.postgres.database_with_keys(MANY_KEYS)
    url = bench.postgres.url(database)
    server_cores, client_cores = bench.pins(workers)
    place = {"workers": workers, "cores": server_cores}
    asked = {"keys": FEW_KEYS, "threads": workers, "cores": client_cores}
    cached = Cached(bench, database)
    with (
        bench_server(bench.workplace, "gate-on", url, cache_entries=with_room(FEW_KEYS), **place) as on,
        bench_server(bench.workplace, "gate-off", url, gate=False, **place) as off,
    ):
        on.warm(range(FEW_KEYS))
        ours = wrk_side(bench.workplace, "gate", on, **asked)
        against = wrk_side(bench.workplace, "no gate", off, **asked)
        outcome = compare(bench.settings, pair, 0.90, ours, against)
    cached.check(outcome, FEW_KEYS)
    return outcome


def against_haproxy(bench, pair, start, label, target=None):
    """A server with one worker thread and all keys cached, against HAProxy with all in a map."""
    database = bench.postgres.database_with_keys(MANY_KEYS)
    server_cores, client_cores = bench.pins(1)
    asked = {"keys": MANY_KEYS, "threads": 1, "cores": client_cores}
    cached = Cached(bench, database)
    with start(
        bench.workplace,
        "server",
        bench.postgres.url(database),
        workers=1,
        cores=server_cores,
        cache_entries=with_room(MANY_KEYS),
    ) as server:
        server.check()
        server.warm(range(MANY_KEYS))
        # The same path, so that the requests are the same.
        with haproxy(bench.workplace, server.path, MANY_KEYS, server_cores) as other:
            ours = wrk_side(bench.workplace, label, server, **asked)
            against = wrk_side(bench.workplace, "HAProxy", other, **asked)
            outcome = compare(bench.settings, pair, target, ours, against)
    cached.check(outcome, MANY_KEYS)
    return outcome


def cold(bench, pair):
    """Most keys have to be looked up: HTTP and all, against a client that only looks up."""
    database = bench.postgres.database_with_keys(MANY_KEYS)
    url = bench.postgres.url(database)
    with bench_server(bench.workplace, "server", url, workers=2, cache_entries=10_000) as server:
        ours = wrk_side(bench.workplace, "gate, cold", server, keys=MANY_KEYS, threads=1, cores=None)
        return compare(bench.settings, pair, 0.5, ours, *pgbench_sides(bench, database))


def gathered(bench, pair):
    """Look-ups that are gathered into few statements, against one statement each."""
    database = bench.postgres.database_with_keys(MANY_KEYS)
    environment = {"DATABASE_URL": bench.postgres.url(database), "TOKIO_WORKER_THREADS": "2"}

    def look_up(seconds, _seed):
        command = [BENCH_LOOKUPS, "--keys", MANY_KEYS, "--tasks", 64, "--seconds", seconds]
        output = bench.workplace.run("bench_lookups", command, environment=environment).output
        try:
            return Sample(float(output))
        except ValueError:
            raise Broken(f"bench_lookups says:\n{output}") from None

    return compare(bench.settings, pair, 1.3, Side("gathered", look_up), *pgbench_sides(bench, database))


def pgbench_sides(bench, database):
    """pgbench with our statement, and with the one that it brings along."""
    own_tables = bench.postgres.database_of_pgbench()
    script = ROOT / "bench" / "lookup.sql"

    def ours(seconds, seed):
        arguments = ["-f", script, "-D", f"keys={MANY_KEYS}"]
        return Sample(bench.postgres.pgbench(database, arguments, seconds, seed))

    def builtin(seconds, seed):
        return Sample(bench.postgres.pgbench(own_tables, ["-S"], seconds, seed))

    return Side("pgbench", ours), Side("pgbench -S", builtin)


def million(bench, pair):
    """How the gate's speed and memory grow with the number of keys."""
    keys = 10_000_000 if bench.settings.large else 1_000_000
    database = bench.postgres.database_with_keys(keys)
    url = bench.postgres.url(database)
    server_cores, client_cores = bench.pins(1)
    place = {"workers": 1, "cores": server_cores, "cache_entries": with_room(keys)}
    asked = {"threads": 1, "cores": client_cores, "built": True}
    cached = Cached(bench, database)
    with (
        bench_server(bench.workplace, "many-keys", url, **place) as many,
        bench_server(bench.workplace, "few-keys", url, **place) as few,
    ):
        few.warm(range(FEW_KEYS))
        # The first keys bring in what does not depend on the number of keys: buffers, connections.
        many.warm(range(FIRST_KEYS))
        before = many.program.resident_bytes()
        print(f"{pair}: asking once for each of {keys:,} keys", flush=True)
        many.warm(range(FIRST_KEYS, keys))
        bytes_per_key = (many.program.resident_bytes() - before) / (keys - FIRST_KEYS)
        ours = wrk_side(bench.workplace, f"{keys:,} keys", many, keys=keys, **asked)
        against = wrk_side(bench.workplace, f"{FEW_KEYS:,} keys", few, keys=FEW_KEYS, **asked)
        outcome = compare(bench.settings, pair, 0.90, ours, against)
    outcome.rows.append(bounded_row(pair, "resident memory a cached key", bytes_per_key, 200, "bytes"))
    cached.check(outcome, keys + FEW_KEYS)
    return outcome


def gate_alone(bench, pair):
    """The gate without a server, measured by criterion."""
    # Cargo needs its own environment, and the repository's settings of it.
    command = ["cargo", "bench", "--locked", "--bench", "gate"]
    _, cores = bench.pins(1)
    output = bench.workplace.run("cargo-bench", command, cores=cores, directory=ROOT, seconds=1800).output

    def printed(pattern):
        found = re.search(rf"^{pattern}\s*$", output, re.MULTILINE)
        if not found:
            raise Broken(f"cargo bench --bench gate prints no line «{pattern}»:\n{output[-2000:]}")
        return float(found[1])

    number = r"(\d+(?:\.\d+)?)"
    return Outcome(
        rows=[
            bounded_row(pair, "one verification", printed(f"gate: {number} ns"), 600, "ns"),
            bounded_row(pair, "one verification", printed(f"gate: {number} allocations"), 2, "allocations"),
            bounded_row(pair, "a cached key", printed(f"cache: {number} bytes a key"), 200, "bytes"),
        ]
    )


def with_room(keys):
    """Entries of a cache that shall keep all of so many keys: they do not fall evenly into its parts."""
    return keys + keys // 50 + 20_000


PAIRS = {
    "gate-alone": gate_alone,
    "gate-1": lambda bench, pair: gate(bench, pair, 1),
    "gate-2": lambda bench, pair: gate(bench, pair, 2),
    "haproxy": lambda bench, pair: against_haproxy(bench, pair, bench_server, "gate", 1.0),
    "service": lambda bench, pair: against_haproxy(bench, pair, tollgate_serve, "tollgate serve"),
    "cold": cold,
    "gathered": gathered,
    "million": million,
    "attack": lambda bench, pair: attack.measure(bench, pair, bench.postgres.database_with_keys(MANY_KEYS)),
    "revoke": lambda bench, _pair: revoke.measure(bench),
    "purchases-hot": lambda bench, pair: money.purchases(bench, pair, 12),
    "purchases-hot-keyed": lambda bench, pair: money.purchases(bench, pair, keyed=True),
    "purchases-many": lambda bench, pair: money.purchases(bench, pair, 2, accounts=ledgers.ACCOUNTS),
    "purchase-lone": lambda bench, pair: money.purchases(bench, pair, connections=1, clients=1),
    "batch-1": lambda bench, pair: money.batch(bench, pair, 1),
    "batch-10": lambda bench, pair: money.batch(bench, pair, 10),
    "batch-50": lambda bench, pair: money.batch(bench, pair, 50),
    "batch-200": lambda bench, pair: money.batch(bench, pair, 200, 25),
    "batch-500": lambda bench, pair: money.batch(bench, pair, 500),
    "batch-1-latency": money.batch_latency,
    "ledger-size": money.ledger_size,
}
