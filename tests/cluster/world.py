"""The cluster, HAProxy, PgBouncer, the two nodes and their clients. The phases use them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from haproxy import HaProxy
from load import CREDIT, MINOR_UNITS, Load, Pace
from nodes import Nodes, Urls, is_ready
from patroni_cluster import Cluster
from pgbouncer import PgBouncer
from probe import SCHEMA, Probe, timeline
from record import Phase, Record
from workplace import Workplace, wait_until

# A node must answer every request that begins this long after its path to the database has opened.
BOUND_SECONDS = 3
# How long a phase continues after that time.
WATCH_SECONDS = 2
# How long the clients run before a fault.
BEFORE_SECONDS = 1
READY_SECONDS = 60


@dataclass
class PhaseSpec:
    """A phase. `prepare` runs first, without load. `run` then causes the fault, repairs it, and returns the time when
    each node's path opened."""

    name: str
    run: Callable[[World], dict[str, float]]
    prepare: Callable[[World], None] | None = None


class World:
    """One mode of the test, with its own database."""

    def __init__(
        self,
        workplace: Workplace,
        mode: str,
        cluster: Cluster,
        haproxy: HaProxy,
        pgbouncer: PgBouncer,
        passwords: dict[str, str],
        binary: Path,
    ) -> None:
        self.mode = mode
        self.cluster = cluster
        self.haproxy = haproxy
        self.pgbouncer = pgbouncer
        self.record = Record()
        self._passwords = passwords
        self._database = f"tollgate_{mode}"
        self.nodes = Nodes(workplace, binary, mode, self._urls())
        self._load: Load | None = None

    def start(self, pace: Pace) -> None:
        self.cluster.wait_until_healthy()
        with psycopg.connect(self.superuser_url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self._database}" OWNER tollgate'.encode())
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        for name, probe in self.probes(self.timeline()).items():
            probe.wait(READY_SECONDS, f"the database is open for node {name}")
        admin_key = self.nodes.create_tenant()
        self.nodes.start()
        self._load = Load(self.nodes, admin_key, self.record, pace)
        self._load.start()

    @property
    def load(self) -> Load:
        assert self._load is not None, "start() must run first"
        return self._load

    def run_phase(self, spec: PhaseSpec) -> Phase:
        if spec.prepare is not None:
            spec.prepare(self)
            self.wait_until_ready()
        phase = Phase(f"{self.mode}: {spec.name}", time.monotonic())
        self.record.phases.append(phase)
        self.load.turn_on()
        time.sleep(BEFORE_SECONDS)
        phase.open = spec.run(self)
        self.cluster.wait_until_healthy()
        time.sleep(max(0, max(phase.open.values()) + BOUND_SECONDS + WATCH_SECONDS - time.monotonic()))
        self.load.turn_off()
        phase.ended = time.monotonic()
        return phase

    def fault_begins(self) -> None:
        self.record.phases[-1].fault = time.monotonic()

    def wait_until_ready(self) -> None:
        for name, port in self.nodes.ports.items():
            wait_until(lambda: is_ready(port), f"node {name} is ready", READY_SECONDS)

    def timeline(self) -> int:
        return timeline(self.superuser_url())

    def probes(self, least_timeline: int) -> dict[str, Probe]:
        """Returns a probe of the paths to the database for each node."""
        if self.mode == "haproxy":
            paths = {"A": [self.haproxy.port], "B": [self.pgbouncer.port]}
            return {name: Probe(self._url, ports, least_timeline) for name, ports in paths.items()}
        probe = Probe(self._url, [member.port for member in self.cluster.members], least_timeline)
        return {"A": probe, "B": probe}

    def finish(self) -> None:
        self.load.finish()

    @property
    def start_balance(self) -> int:
        return CREDIT * MINOR_UNITS

    def superuser_url(self, database: str | None = None) -> str:
        port = self.cluster.leader().port
        return f"postgres://postgres:{self._passwords['postgres']}@127.0.0.1:{port}/{database or self._database}"

    def standby_urls(self) -> list[str]:
        leader = self.cluster.leader()
        password = self._passwords["postgres"]
        ports = [member.port for member in self.cluster.members if member is not leader]
        return [f"postgres://postgres:{password}@127.0.0.1:{port}/postgres" for port in ports]

    def _url(self, *ports: int) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgres://tollgate:{self._passwords['tollgate']}@{hosts}/{self._database}?sslmode=disable"

    def _urls(self) -> Urls:
        if self.mode == "haproxy":
            direct = self._url(self.haproxy.port)
            return Urls(direct, self._url(self.pgbouncer.port), direct, direct)
        hosts = self._url(*(member.port for member in self.cluster.members)) + "&target_session_attrs=read-write"
        return Urls(hosts, hosts, None, hosts)
