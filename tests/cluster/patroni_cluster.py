"""A Patroni cluster of three members, each with a Postgres."""

from __future__ import annotations

import http.client
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workplace import Broken, Program, Workplace, children, kill, wait_until

NAMES = ("n1", "n2", "n3")
# The minimum that Patroni allows.
TTL_SECONDS = 20
SETTLE_SECONDS = 90

START = "import sys; from patroni.__main__ import main; sys.argv = ['patroni', sys.argv[1]]; main()"


@dataclass
class State:
    """The state of the cluster, as Patroni reports it."""

    leader: str | None
    sync_standby: str | None
    # Whether all members are on one timeline, and both standbys stream from the primary.
    is_healthy: bool


class Member:
    """One member of the cluster: a Patroni and its Postgres."""

    def __init__(self, workplace: Workplace, name: str) -> None:
        self.name = name
        self.port = workplace.free_port()
        self.api_port = workplace.free_port()
        self.place = workplace.folder(name)
        self.data = self.place / "data"
        self.configuration: Path | None = None
        self._workplace = workplace
        self._patroni: Program | None = None

    def start(self) -> None:
        if self.configuration is None:
            raise Broken(f"{self.name} has no configuration")
        command = [sys.executable, "-B", "-c", START, self.configuration]
        self._patroni = self._workplace.start(self.name, command)

    def kill(self) -> None:
        """Kills Patroni and all processes of Postgres, as if the machine had lost power."""
        postgres = self._postgres()
        if self._patroni is not None:
            self._patroni.kill()
        for pid in postgres:
            kill(pid, signal.SIGKILL)

    def signal_patroni(self, number: signal.Signals) -> None:
        if self._patroni is not None:
            self._patroni.signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        self.signal_patroni(number)
        # The second round kills processes that started during the first round.
        for _ in range(2):
            for pid in self._postgres():
                kill(pid, number)

    def call(self, method: str, path: str, body: object = None, seconds: float = 2) -> tuple[int, bytes]:
        """Calls Patroni's REST API. The status 0 means that there was no response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def _postgres(self) -> list[int]:
        try:
            postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return []
        return [postmaster, *children(postmaster)]


class Cluster:
    def __init__(self, workplace: Workplace, etcd_port: int, bindir: Path, passwords: dict[str, str]) -> None:
        self.members = [Member(workplace, name) for name in NAMES]
        for member in self.members:
            text = json.dumps(configuration(workplace, member, etcd_port, bindir, passwords), indent=2)
            # Patroni reads YAML, and every JSON document is valid YAML.
            member.configuration = workplace.file(f"{member.name}.yml", text)

    def start(self) -> None:
        for member in self.members:
            member.start()
        self.wait_until_healthy()

    def member(self, name: str | None) -> Member:
        for member in self.members:
            if member.name == name:
                return member
        raise Broken(f"there is no member {name}")

    def leader(self) -> Member:
        return self.member(self.state().leader)

    def state(self) -> State:
        """Returns the state that the first member with a known leader reports. A frozen or isolated member may not
        respond, or may report an old state."""
        found = State(None, None, False)
        for member in self.members:
            status, text = member.call("GET", "/cluster")
            if status != 200:
                continue
            try:
                found = read_state(json.loads(text))
            except ValueError:
                continue
            if found.leader is not None:
                return found
        return found

    def wait_until_healthy(self, seconds: float = SETTLE_SECONDS) -> None:
        try:
            wait_until(lambda: self.state().is_healthy, "the cluster is healthy", seconds)
        except TimeoutError as error:
            raise Broken(f"{error}: {self.members[0].call('GET', '/cluster')[1].decode(errors='replace')}") from error

    def switch_over(self, seconds: float = 15) -> bool:
        """Makes the synchronous standby the leader. Returns False if Patroni refused or failed."""
        state = self.state()
        body = {"leader": state.leader, "candidate": state.sync_standby}
        status, _ = self.member(state.leader).call("POST", "/switchover", body, seconds)
        return status == 200

    def set_maintenance(self, is_on: bool) -> None:
        """Switches Patroni's maintenance mode ("pause") on or off, and returns when all members have the setting."""
        status, _ = self.leader().call("PATCH", "/config", {"pause": is_on}, 5)
        if status != 200:
            raise Broken(f"Patroni did not change its maintenance mode: {status}")

        def all_know() -> bool:
            answers = [member.call("GET", "/patroni")[1] for member in self.members]
            return all((b'"pause": true' in answer) == is_on for answer in answers)

        wait_until(all_know, "all members have the setting of the maintenance mode", 10)


def read_state(cluster: Any) -> State:
    members = cluster["members"]
    by_role: dict[str, list[str]] = {}
    for member in members:
        by_role.setdefault(member["role"], []).append(member["name"])
    leaders, synchronous = by_role.get("leader", []), by_role.get("sync_standby", [])
    running = all(
        member.get("state") == ("running" if member["role"] == "leader" else "streaming") for member in members
    )
    same_timeline = len({member.get("timeline") for member in members}) == 1
    healthy = len(members) == len(NAMES) and len(leaders) == 1 and len(synchronous) == 1 and running and same_timeline
    return State(leaders[0] if leaders else None, synchronous[0] if synchronous else None, healthy)


def configuration(
    workplace: Workplace, member: Member, etcd_port: int, bindir: Path, passwords: dict[str, str]
) -> dict[str, object]:
    parameters = {
        "max_connections": 100,
        "shared_buffers": "32MB",
        # The test needs no durability, because its data does not have to survive a crash of the machine.
        "fsync": "off",
        "wal_log_hints": "on",
        "wal_keep_size": "512MB",
        "unix_socket_directories": str(member.place),
        "logging_collector": "on",
        "log_directory": str(workplace.logs),
        "log_filename": f"{member.name}-postgres.log",
        "log_line_prefix": "%m [%p] %q%a ",
        "log_file_mode": "0644",
    }
    return {
        "scope": "cluster",
        "name": member.name,
        "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
        "restapi": {
            "listen": f"127.0.0.1:{member.api_port}",
            "connect_address": f"127.0.0.1:{member.api_port}",
        },
        "bootstrap": {
            "dcs": {
                "ttl": TTL_SECONDS,
                "loop_wait": 1,
                "retry_timeout": 3,
                "synchronous_mode": True,
                "primary_start_timeout": 1,
                "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {}},
            },
            "initdb": [
                {"encoding": "UTF8"},
                {"locale": "C"},
                {"auth-host": "scram-sha-256"},
                {"auth-local": "trust"},
                "no-sync",
            ],
        },
        "postgresql": {
            "listen": f"127.0.0.1:{member.port}",
            "connect_address": f"127.0.0.1:{member.port}",
            "data_dir": str(member.data),
            "bin_dir": str(bindir),
            "pgpass": str(member.place / "pgpass"),
            "authentication": {
                "superuser": {"username": "postgres", "password": passwords["postgres"]},
                "replication": {"username": "replicator", "password": passwords["replicator"]},
            },
            "parameters": parameters,
            "pg_hba": [
                "local all all trust",
                "host replication replicator 127.0.0.1/32 scram-sha-256",
                "host all all 127.0.0.1/32 scram-sha-256",
            ],
        },
        "watchdog": {"mode": "off"},
    }
