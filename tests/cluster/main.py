#!/usr/bin/env python3
"""Tests Tollgate on a Postgres that fails over: three servers under Patroni, etcd, HAProxy and PgBouncer.

    scripts/test-cluster.sh [--mode MODE]... [--phase NAME]...

installs the missing programs, and runs this program. Two nodes run on the cluster. In the mode `haproxy`, node A
connects through HAProxy, and node B through PgBouncer and HAProxy. In the mode `hosts`, the database URL of both nodes
lists all three servers. Clients make purchases, and create and revoke keys, while the phases cause failovers.

The test checks three rules. No acknowledged purchase may be lost or duplicated. No node may accept a key after its
revocation has returned. In each phase, a node must answer every request that begins 3 s or more after its path to the
new primary is open.

With TOLLGATE_TEST_LONG set, all phases run, and the clients make at least 100,000 purchases and 10,000
revocations. The test runs target/debug/tollgate, or the binary that TOLLGATE_BIN names. PG_BINDIR is the
directory of Postgres's programs. The exit status is 0 if every check passed. Otherwise the test keeps the
logs of all programs. """

from __future__ import annotations

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# Keeps __pycache__ out of the repository.
sys.dont_write_bytecode = True
import psycopg  # noqa: E402

from etcd import Etcd  # noqa: E402
from haproxy import HaProxy  # noqa: E402
from judge import judge  # noqa: E402
from load import Pace  # noqa: E402
from patroni_cluster import Cluster  # noqa: E402
from pgbouncer import PgBouncer  # noqa: E402
from phases import phases_of, until_enough  # noqa: E402
from record import Record  # noqa: E402
from report import Outage, examples, line, outages, refused_new_keys, table  # noqa: E402
from workplace import Broken, Workplace  # noqa: E402
from world import World  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
MODES = ("haproxy", "hosts")
LONG_VARIABLE = "TOLLGATE_TEST_LONG"
LONG_PURCHASES = 100_000
LONG_REVOKES = 10_000
LONG_PACE = Pace(hot_buyers=8, buyers=8, revokers=8, pause=0.005, again=(0.5, 4.0))


class Outcome:
    """The results of the modes so far."""

    def __init__(self) -> None:
        self.outages: list[Outage] = []
        self.faults: list[str] = []
        self.purchases = 0
        self.revokes = 0
        # The number of refusals of new keys during outages.
        self.refused_new = 0

    def add(self, record: Record) -> None:
        ended = [phase for phase in record.phases if phase.ended]
        found = [outage for phase in ended for outage in outages(record, phase)]
        self.outages += found
        self.purchases += sum(purchase.id is not None for purchase in record.purchases)
        self.revokes += len(record.revoked)
        late = [record.describe(answer) for outage in found for answer in outage.late]
        self.faults += examples("revoked keys accepted", record.late_passes)
        refused, excused = refused_new_keys(record)
        self.refused_new += excused
        self.faults += examples("refusals of new keys", [record.describe(answer) for answer in refused])
        self.faults += examples("wrong answers", record.wrong)
        self.faults += examples("5xx or no response after the time limit", late)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tests Tollgate on a Postgres that fails over.")
    parser.add_argument("--mode", action="append", choices=MODES, help="run only this mode")
    parser.add_argument("--phase", action="append", default=[], help="run only the phases whose names contain this")
    arguments = parser.parse_args()
    end_on_signals()
    long = bool(os.environ.get(LONG_VARIABLE))
    outcome = Outcome()
    with Workplace() as workplace:
        try:
            run(workplace, arguments.mode or MODES, arguments.phase, long, outcome)
        except Broken as broken:
            outcome.faults.append(str(broken))
        except Exception:
            workplace.keep_logs = True
            print(f"logs: {workplace.logs}")
            raise
        print(f"\n{table(outcome.outages)}\n")
        if outcome.refused_new:
            print(f"the nodes refused new keys {outcome.refused_new} times during outages")
        if outcome.faults:
            workplace.keep_logs = True
            print("\n".join(outcome.faults))
            print(f"logs: {workplace.logs}")
        else:
            print(f"every check passed: {outcome.purchases:,} purchases, {outcome.revokes:,} revocations")
    sys.exit(1 if outcome.faults else 0)


def run(workplace: Workplace, modes: Sequence[str], names: Sequence[str], long: bool, outcome: Outcome) -> None:
    binary = program()
    begun = time.monotonic()
    users = {name: secrets.token_hex(16) for name in ("postgres", "replicator", "tollgate")}
    etcd = Etcd(workplace)
    etcd.wait()
    # Patroni cannot use links to Postgres's programs, so this resolves the link to initdb.
    bindir = (Path(os.environ["PG_BINDIR"]) / "initdb").resolve().parent
    cluster = Cluster(workplace, etcd.port, bindir, users)
    cluster.start()
    leader = cluster.leader()
    with psycopg.connect(f"postgres://postgres:{users['postgres']}@127.0.0.1:{leader.port}/postgres") as connection:
        connection.execute(f"CREATE ROLE tollgate LOGIN PASSWORD '{users['tollgate']}'".encode())
    haproxy = HaProxy(workplace, cluster.members)
    haproxy.start()
    pgbouncer = PgBouncer(workplace, haproxy.port, {"tollgate": users["tollgate"]})
    pgbouncer.start()
    print(f"the cluster is up after {time.monotonic() - begun:.1f} s", flush=True)
    for mode in modes:
        world = World(workplace, mode, cluster, haproxy, pgbouncer, users, binary)
        try:
            run_mode(world, names, long, outcome, len(modes))
        except (Broken, TimeoutError, psycopg.Error) as broken:
            outcome.faults.append(f"{mode}: {broken}")
            print(f"{mode}: stopped by an error", flush=True)
        finally:
            outcome.add(world.record)
            world.nodes.kill()


def run_mode(world: World, names: Sequence[str], long: bool, outcome: Outcome, modes: int) -> None:
    begun = time.monotonic()
    world.start(LONG_PACE if long else Pace())
    print(f"{world.mode}: two nodes are up after {time.monotonic() - begun:.1f} s", flush=True)
    for spec in phases_of(world.mode, long):
        if not names or any(name in spec.name for name in names):
            print(line(world.record, world.run_phase(spec)), flush=True)
    if long and not names:
        spec = until_enough(LONG_PURCHASES // modes, LONG_REVOKES // modes)
        print(line(world.record, world.run_phase(spec)), flush=True)
    world.finish()
    faults = judge(world.superuser_url(), world.record, world.load.accounts, world.start_balance)
    outcome.faults += examples(f"{world.mode}: the rows of the primary", faults)
    verified = world.nodes.command("ledger", "verify").strip()
    print(f"{world.mode}: {verified.splitlines()[-1]}; {time.monotonic() - begun:.0f} s in all", flush=True)


def program() -> Path:
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    return Path(os.environ.get("TOLLGATE_BIN") or target / "debug" / "tollgate").absolute()


def end_on_signals() -> None:
    """Makes signals raise an exception, so that `with` blocks clean up."""

    def leave(number: int, _frame: object) -> None:
        # A second signal must not interrupt the cleanup.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


if __name__ == "__main__":
    main()
