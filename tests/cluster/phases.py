"""The faults. Each function causes one fault, repairs it, and returns the time at which each node's path to the
database opened."""

from __future__ import annotations

import signal
import time

import psycopg

from patroni_cluster import TTL_SECONDS
from probe import Probe
from workplace import Broken, wait_until
from world import BOUND_SECONDS, PhaseSpec, World

# Patroni promotes a standby after its leader lock has expired.
FAILOVER_SECONDS = TTL_SECONDS + 25
SWITCHOVER_SECONDS = 20
# How long the old and the new primary run concurrently.
TOGETHER_SECONDS = 5
REPLAY_PAUSED_SECONDS = 3
RESTART_SECONDS = 20


def switchover(world: World) -> dict[str, float]:
    probes = world.probes(world.timeline() + 1)
    world.fault_begins()
    if not world.cluster.switch_over():
        raise Broken("Patroni did not switch over")
    return wait_for_all(probes, SWITCHOVER_SECONDS)


def kill_primary(world: World) -> dict[str, float]:
    leader = world.cluster.leader()
    probes = world.probes(world.timeline() + 1)
    world.fault_begins()
    leader.kill()
    opened = wait_for_all(probes, FAILOVER_SECONDS)
    leader.start()
    return opened


def pause_replay(world: World) -> dict[str, float]:
    """Promotes a standby that has not yet replayed the newest revocations."""
    set_replay_paused(world)
    time.sleep(REPLAY_PAUSED_SECONDS)
    opened = switchover(world)
    world.cluster.set_maintenance(False)
    return opened


def freeze_patroni(world: World) -> dict[str, float]:
    """Freezes Patroni. The Postgres of the old primary keeps running, and answers reads."""
    leader = world.cluster.leader()
    probes = world.probes(world.timeline() + 1)
    world.fault_begins()
    leader.signal_patroni(signal.SIGSTOP)
    opened = wait_for_all(probes, FAILOVER_SECONDS)
    time.sleep(TOGETHER_SECONDS)
    leader.signal_patroni(signal.SIGCONT)
    return opened


def freeze_patroni_with_sessions(world: World) -> dict[str, float]:
    """Freezes Patroni while HAProxy does not cut connections. PgBouncer keeps its connections to the old primary, and
    assigns them to node B until that primary stops. So the path of node B opens only afterwards."""
    leader = world.cluster.leader()
    probes = world.probes(world.timeline() + 1)
    world.fault_begins()
    leader.signal_patroni(signal.SIGSTOP)
    opened = {"A": probes["A"].wait(FAILOVER_SECONDS, "the database opens for node A")}
    time.sleep(TOGETHER_SECONDS)
    leader.signal_patroni(signal.SIGCONT)
    opened["B"] = probes["B"].wait(FAILOVER_SECONDS, "the database opens for node B")
    return opened


def freeze_machine(world: World) -> dict[str, float]:
    leader = world.cluster.leader()
    probes = world.probes(world.timeline() + 1)
    world.fault_begins()
    leader.signal_all(signal.SIGSTOP)
    opened = wait_for_all(probes, FAILOVER_SECONDS)
    time.sleep(TOGETHER_SECONDS)
    leader.signal_all(signal.SIGCONT)
    return opened


def restart_haproxy(world: World) -> dict[str, float]:
    """Restarts HAProxy. After the restart, HAProxy first sends connections to any server, including standbys that
    lag."""
    set_replay_paused(world)
    world.fault_begins()
    world.haproxy.stop()
    time.sleep(1)
    probes = world.probes(world.timeline())
    world.haproxy.start()
    opened = wait_for_all(probes, RESTART_SECONDS)
    time.sleep(REPLAY_PAUSED_SECONDS)
    world.cluster.set_maintenance(False)
    return opened


def restart_pgbouncer(world: World) -> dict[str, float]:
    world.fault_begins()
    world.pgbouncer.stop()
    time.sleep(1)
    probes = world.probes(world.timeline())
    world.pgbouncer.start()
    return wait_for_all(probes, RESTART_SECONDS)


def until_enough(purchases: int, revokes: int) -> PhaseSpec:
    """Runs a phase without a fault. The phase ends after this many purchases and revocations."""

    def run(world: World) -> dict[str, float]:
        world.fault_begins()
        record = world.record
        opened = record.phases[-1].begun - BOUND_SECONDS
        while len(record.purchases) < purchases or len(record.revoked) < revokes:
            world.load.check()
            time.sleep(1)
        return {"A": opened, "B": opened}

    return PhaseSpec("no fault", run)


def keep_sessions(world: World) -> None:
    world.haproxy.stop()
    world.haproxy.start(cut_sessions=False)


def cut_sessions(world: World) -> None:
    world.haproxy.stop()
    world.haproxy.start()


def set_replay_paused(world: World) -> None:
    """Pauses replay on both standbys. Outside of maintenance mode, Patroni would resume it every second."""
    world.cluster.set_maintenance(True)
    urls = world.standby_urls()
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT pg_wal_replay_pause()")
    for url in urls:
        wait_until(lambda: is_paused(url), "the replay is paused", 5)


def is_paused(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_get_wal_replay_pause_state() = 'paused'").fetchone()
    return row is not None and bool(row[0])


def wait_for_all(probes: dict[str, Probe], seconds: float) -> dict[str, float]:
    return {name: probe.wait(seconds, f"the database opens for node {name}") for name, probe in probes.items()}


SHORT = (
    PhaseSpec("switchover", switchover),
    PhaseSpec("primary killed", kill_primary),
    PhaseSpec("replay paused", pause_replay),
    PhaseSpec("Patroni frozen", freeze_patroni),
)
LONG = (*SHORT, PhaseSpec("machine frozen", freeze_machine))
# These phases run only in the mode with HAProxy and PgBouncer.
LONG_HAPROXY = (
    PhaseSpec("HAProxy restarted", restart_haproxy),
    PhaseSpec("PgBouncer restarted", restart_pgbouncer),
    PhaseSpec("sessions kept, switchover", switchover, prepare=keep_sessions),
    PhaseSpec("sessions kept, Patroni frozen", freeze_patroni_with_sessions, prepare=keep_sessions),
    PhaseSpec("sessions cut again, switchover", switchover, prepare=cut_sessions),
)


def phases_of(mode: str, long: bool) -> list[PhaseSpec]:
    if not long:
        return list(SHORT)
    return [*LONG, *(LONG_HAPROXY if mode == "haproxy" else ())]
