"""The pairs that the benchmark compares. README.md explains each pair."""

import re
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median

import attack
import ledgers
import limits
import money
import revoke
from builds import Build
from database import Postgres
from measure import Outcome, Sample, Settings, Side, bounded_row, compare
from processes import ROOT, Broken, Cores, Workplace
from servers import AUTHORIZE, bench_server, fresh_keys_side, haproxy, tollgate_serve, wrk_side

FEW_KEYS = 1_000
MANY_KEYS = 100_000
FIRST_KEYS = 50_000

# The maximum share of responses that may need a lookup in the database. With a larger share, the result would
# not represent a gate that has cached all keys.
UNCACHED_SHARE = 0.01
# The minimum fraction of calls that begin a window, in the pair that measures first calls.
FIRST_CALLS = 0.99

# No measurement uses up one of these limits.
THREE_LIMITS = ("--key-limit", "default=100000/60s", "--account-limit", "default=500000/60s")
THREE_LIMITS += ("--limit", "default=10000000/60s")
# A window ends before the benchmark uses the key again.
KEY_LIMIT = ("--key-limit", "default=1000/10s")


@dataclass
class Bench:
    """The tools and settings that all pairs use."""

    workplace: Workplace
    postgres: Postgres
    cores: Cores
    settings: Settings
    current: Build
    # The commit to compare this tree with, or None.
    base: Build | None

    def pins(self, worker_threads):
        """Returns the cores for a server and the cores for its client."""
        return self.cores.split(worker_threads)


class Cached:
    """Checks that a server has responded from its cache. Create it before the server starts, and call `check`
    after the server has ended."""

    def __init__(self, bench, database):
        self._bench = bench
        self._database = database
        self._before = bench.postgres.lookups(database)

    def check(self, pair, side, warmed):
        looked_up = self._bench.postgres.lookups(self._database) - self._before
        answers = sum(sample.answers_per_second for sample in side.samples) * self._bench.settings.seconds
        later = max(0, looked_up - warmed)
        lookups = f"{later:,} lookup" if later == 1 else f"{later:,} lookups"
        if later > answers * UNCACHED_SHARE:
            raise Broken(f"{side.label}: {lookups} for {answers:,.0f} responses, so not all keys were cached")
        side.notes.append(f"{pair}: {lookups} in the database for {answers:,.0f} responses.")


def gate(bench, pair, workers):
    """Measures the cost of the gate: the same server and requests, with the gate and without it."""
    server_cores, client_cores = bench.pins(workers)
    place = {"workers": workers, "cores": server_cores}
    asked = {"keys": FEW_KEYS, "threads": workers, "cores": client_cores}

    @contextmanager
    def ours(build):
        database = bench.postgres.database_with_keys(build, MANY_KEYS)
        url = bench.postgres.url(database)
        name, room = build.process("gate-on"), with_room(FEW_KEYS)
        cached = Cached(bench, database)
        with bench_server(bench.workplace, build, name, url, cache_entries=room, **place) as on:
            on.warm(range(FEW_KEYS))
            side = wrk_side(bench.workplace, build.label("gate"), on, **asked)
            yield side
        cached.check(build.label(pair), side, FEW_KEYS)

    @contextmanager
    def against():
        url = bench.postgres.url(bench.postgres.database_with_keys(bench.current, MANY_KEYS))
        with bench_server(bench.workplace, bench.current, "gate-off", url, gate=False, **place) as off:
            yield [wrk_side(bench.workplace, "no gate", off, **asked)]

    return compare(bench, pair, 0.90, ours, against)


def limited(bench, pair, start, label, constant_fields=False):
    """Measures the cost of rate limits: the same server and requests, with three limits and without them. With
    `constant_fields`, also measures the server without limits and with constant `RateLimit` fields."""
    server_cores, client_cores = bench.pins(1)
    place = {"workers": 1, "cores": server_cores, "cache_entries": with_room(FEW_KEYS)}
    asked = {"keys": FEW_KEYS, "threads": 1, "cores": client_cores}

    @contextmanager
    def side(build, name, label, database, **options):
        url = bench.postgres.url(database)
        cached = Cached(bench, database)
        with start(bench.workplace, build, build.process(name), url, **place, **options) as server:
            server.check()
            server.warm(range(FEW_KEYS))
            side = wrk_side(bench.workplace, build.label(label), server, **asked)
            yield side
        cached.check(f"{pair}: {side.label}", side, FEW_KEYS)

    def ours(build):
        database = bench.postgres.database_with_limits(build, "three_limits", MANY_KEYS, *THREE_LIMITS)
        return side(build, "with-limits", f"{label}, three limits", database)

    @contextmanager
    def against():
        with ExitStack() as stack:
            database = bench.postgres.database_with_keys(bench.current, MANY_KEYS)
            sides = [stack.enter_context(side(bench.current, "without-limits", f"{label}, no limits", database))]
            if constant_fields:
                # Each server needs its own database, because the lookups are counted per database. They are only
                # those of the warm-up.
                database = bench.postgres.database_with_keys(bench.current, FEW_KEYS)
                with_fields = f"{label}, no limits, constant fields"
                with_fields = side(bench.current, "constant-fields", with_fields, database, constant_fields=True)
                sides.append(stack.enter_context(with_fields))
            yield sides

    return compare(bench, pair, 0.95, ours, against)


def cold_limits(bench, pair):
    """Measures first calls in a window, which need a look-up and a share of a limit, against calls that need only
    a look-up."""
    keys = 1_000_000
    place = {"workers": 2, "cache_entries": 10_000}
    # Each call waits for two statements, of which one is a durable commit. With 64 connections, the machine was idle
    # for a fifth of the time.
    connections = 256

    @contextmanager
    def side(build, name, label, database):
        url = bench.postgres.url(database)
        with bench_server(bench.workplace, build, build.process(name), url, **place) as server:
            side = fresh_keys_side(bench.workplace, build.label(label), server, keys, connections)
            with postgres_time(bench, pair, side):
                yield side

    @contextmanager
    def ours(build):
        database = bench.postgres.database_with_limits(build, "cold_limits", keys, *KEY_LIMIT)
        before = bench.postgres.windows(database)
        with side(build, "cold-limits", "gate, cold, a limit", database) as one:
            yield one
        windows = bench.postgres.windows(database) - before
        # After the last key, the first key follows again, whose first window is over.
        calls = min(keys, sum(sample.answers for sample in one.samples))
        if windows < calls * FIRST_CALLS:
            raise Broken(f"{one.label}: {windows:,} windows for {calls:,} calls, so not all calls were the first ones")

    @contextmanager
    def against():
        database = bench.postgres.database_with_keys(bench.current, keys)
        with side(bench.current, "cold", "gate, cold, no limits", database) as other:
            yield [other]

    return compare(bench, pair, 0.5, ours, against)


@contextmanager
def postgres_time(bench, pair, side):
    """Measures how much CPU time Postgres uses for the calls of a side, and adds it to the notes of the side."""
    measure_only, micros = side.measure, []

    def measure(seconds, seed):
        before = bench.postgres.cpu_seconds()
        sample = measure_only(seconds, seed)
        micros.append((bench.postgres.cpu_seconds() - before) * 1e6 / sample.answers)
        return sample

    side.measure = measure
    yield
    side.notes.append(f"{pair}: {side.label}: {median(micros):.1f} µs of Postgres's CPU time per response.")


def against_haproxy(bench, pair, start, label, path, target=None):
    """Measures a server with one worker thread and all keys cached against HAProxy with all keys in a map."""
    server_cores, client_cores = bench.pins(1)
    place = {"workers": 1, "cores": server_cores, "cache_entries": with_room(MANY_KEYS)}
    asked = {"keys": MANY_KEYS, "threads": 1, "cores": client_cores}

    @contextmanager
    def ours(build):
        database = bench.postgres.database_with_keys(build, MANY_KEYS)
        url = bench.postgres.url(database)
        cached = Cached(bench, database)
        with start(bench.workplace, build, build.process("server"), url, **place) as server:
            server.check()
            server.warm(range(MANY_KEYS))
            side = wrk_side(bench.workplace, build.label(label), server, **asked)
            yield side
        cached.check(build.label(pair), side, MANY_KEYS)

    @contextmanager
    def against():
        # HAProxy gets the same path as Tollgate, so that the requests are identical.
        with haproxy(bench.workplace, path, MANY_KEYS, server_cores) as other:
            yield [wrk_side(bench.workplace, "HAProxy", other, **asked)]

    return compare(bench, pair, target, ours, against)


def cold(bench, pair):
    """Measures a server that must look up most keys against a client that only looks keys up, without HTTP."""
    asked = {"keys": MANY_KEYS, "threads": 1, "cores": None}

    @contextmanager
    def ours(build):
        url = bench.postgres.url(bench.postgres.database_with_keys(build, MANY_KEYS))
        place = {"workers": 2, "cache_entries": 10_000}
        with bench_server(bench.workplace, build, build.process("server"), url, **place) as server:
            yield wrk_side(bench.workplace, build.label("gate, cold"), server, **asked)

    return compare(bench, pair, 0.5, ours, lambda: nullcontext(pgbench_sides(bench)))


def gathered(bench, pair):
    """Measures lookups that share statements against one statement for each lookup."""

    def ours(build):
        url = bench.postgres.url(bench.postgres.database_with_keys(build, MANY_KEYS))
        environment = {"DATABASE_URL": url, "TOKIO_WORKER_THREADS": "2"}
        program = build.program("bench_lookups")

        def look_up(seconds, _seed):
            command = [program, "--keys", MANY_KEYS, "--tasks", 64, "--seconds", seconds]
            output = bench.workplace.run("bench_lookups", command, environment=environment).output
            try:
                return Sample(float(output))
            except ValueError:
                raise Broken(f"unexpected output of bench_lookups:\n{output}") from None

        return nullcontext(Side(build.label("gathered"), look_up))

    return compare(bench, pair, 1.3, ours, lambda: nullcontext(pgbench_sides(bench)))


def pgbench_sides(bench):
    """Measures pgbench with Tollgate's lookup statement against pgbench with its built-in SELECT statement."""
    database = bench.postgres.database_with_keys(bench.current, MANY_KEYS)
    own_tables = bench.postgres.database_of_pgbench()
    script = bench.current.script("lookup.sql")

    def ours(seconds, seed):
        arguments = ["-f", script, "-D", f"keys={MANY_KEYS}"]
        return Sample(bench.postgres.pgbench(database, arguments, seconds, seed))

    def builtin(seconds, seed):
        return Sample(bench.postgres.pgbench(own_tables, ["-S"], seconds, seed))

    return [Side("pgbench", ours), Side("pgbench -S", builtin)]


def million(bench, pair):
    """Measures how the gate's speed and memory change with the number of keys."""
    keys = 10_000_000 if bench.settings.large else 1_000_000
    server_cores, client_cores = bench.pins(1)
    place = {"workers": 1, "cores": server_cores, "cache_entries": with_room(keys)}
    asked = {"threads": 1, "cores": client_cores, "built": True}

    @contextmanager
    def ours(build):
        database = bench.postgres.database_with_keys(build, keys)
        cached = Cached(bench, database)
        url = bench.postgres.url(database)
        with bench_server(bench.workplace, build, build.process("many-keys"), url, **place) as many:
            # The first keys cause allocations that do not depend on the number of keys, such as buffers.
            many.warm(range(FIRST_KEYS))
            before = many.program.resident_bytes()
            print(f"{build.label(pair)}: sending one request with each of {keys:,} keys", flush=True)
            many.warm(range(FIRST_KEYS, keys))
            bytes_per_key = (many.program.resident_bytes() - before) / (keys - FIRST_KEYS)
            side = wrk_side(bench.workplace, build.label(f"{keys:,} keys"), many, keys=keys, **asked)
            side.rows.append(bounded_row(pair, "resident memory per cached key", bytes_per_key, 250, "bytes"))
            yield side
        # The server with few keys uses the database of this tree's server with many keys.
        cached.check(build.label(pair), side, keys + FEW_KEYS)

    @contextmanager
    def against():
        url = bench.postgres.url(bench.postgres.database_with_keys(bench.current, keys))
        with bench_server(bench.workplace, bench.current, "few-keys", url, **place) as few:
            few.warm(range(FEW_KEYS))
            yield [wrk_side(bench.workplace, f"{FEW_KEYS:,} keys", few, keys=FEW_KEYS, **asked)]

    return compare(bench, pair, 0.90, ours, against)


def gate_alone(bench, pair):
    """Measures the gate without a server, with criterion."""
    # The command runs in the root of the repository, because Cargo reads .cargo/config.toml there.
    command = ["cargo", "bench", "--locked", "--bench", "gate"]
    _, cores = bench.pins(1)
    output = bench.workplace.run("cargo-bench", command, cores=cores, directory=ROOT, seconds=1800).output

    def printed(pattern):
        found = re.search(rf"^{pattern}\s*$", output, re.MULTILINE)
        if not found:
            raise Broken(f"cargo bench --bench gate prints no line «{pattern}»:\n{output[-2000:]}")
        return float(found[1])

    number = r"(-?\d+(?:\.\d+)?)"
    return Outcome(
        rows=[
            bounded_row(pair, "one verification", printed(f"gate: {number} ns"), 600, "ns"),
            bounded_row(pair, "one verification", printed(f"gate: {number} allocations"), 2, "allocations"),
            bounded_row(pair, "three limits add", printed(f"limits: {number} ns"), 80, "ns"),
            bounded_row(pair, "three limits add", printed(f"limits: {number} allocations"), 0, "allocations"),
            bounded_row(pair, "three limits and 100 networks add", printed(f"rules: {number} ns"), 150, "ns"),
            bounded_row(pair, "three limits and 100 networks add", printed(f"rules: {number} allocations"), 0, "allocations"),
            bounded_row(pair, "recording the client adds", printed(f"clients: {number} ns"), 30, "ns"),
            bounded_row(pair, "recording the client adds", printed(f"clients: {number} allocations"), 0, "allocations"),
            bounded_row(pair, "a cached key", printed(f"cache: {number} bytes per key"), 250, "bytes"),
        ]
    )


def with_room(keys):
    """Returns the capacity of a cache for all of these keys, which are not distributed evenly over its shards."""
    return keys + keys // 50 + 20_000


PAIRS = {
    "gate-alone": gate_alone,
    "gate-1": lambda bench, pair: gate(bench, pair, 1),
    "gate-2": lambda bench, pair: gate(bench, pair, 2),
    "haproxy": lambda bench, pair: against_haproxy(bench, pair, bench_server, "gate", "/", 1.0),
    "service": lambda bench, pair: against_haproxy(bench, pair, tollgate_serve, "tollgate serve", AUTHORIZE),
    "limits": limits.measure,
    "gate-limits": lambda bench, pair: limited(bench, pair, bench_server, "gate", constant_fields=True),
    "service-limits": lambda bench, pair: limited(bench, pair, tollgate_serve, "tollgate serve"),
    "cold": cold,
    "cold-limits": cold_limits,
    "gathered": gathered,
    "million": million,
    "attack": lambda bench, pair: attack.measure(
        bench, pair, bench.postgres.database_with_keys(bench.current, MANY_KEYS)
    ),
    "revoke": lambda bench, pair: revoke.measure(bench, pair, revoke.REVOCATION),
    "lowered": lambda bench, pair: revoke.measure(bench, pair, revoke.LOWER_LIMIT),
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
