"""Starts two nodes on one database, and runs commands of Tollgate."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workplace import Program, Workplace

COMMAND_SECONDS = 60


@dataclass
class Urls:
    """The URLs of the database for the two nodes and for the commands."""

    node_a: str
    node_b: str
    # None unless `node_b` is the URL of a pooler.
    node_b_listen: str | None
    commands: str


class Nodes:
    def __init__(self, workplace: Workplace, binary: Path, mode: str, urls: Urls) -> None:
        self._workplace = workplace
        self._binary = binary
        self._mode = mode
        self._urls = urls
        self.ports = {"A": workplace.free_port(), "B": workplace.free_port()}
        self.directory = workplace.directory
        self._programs: list[Program] = []

    def start(self) -> None:
        urls = {"A": (self._urls.node_a, None), "B": (self._urls.node_b, self._urls.node_b_listen)}
        for name, (url, listen_url) in urls.items():
            environment = {
                "DATABASE_URL": url,
                "TOLLGATE_LISTEN": f"127.0.0.1:{self.ports[name]}",
                "TOLLGATE_METRICS_LISTEN": "off",
            }
            if listen_url is not None:
                environment["TOLLGATE_LISTEN_DATABASE_URL"] = listen_url
            command = [self._binary, "serve"]
            label = f"{self._mode}-node-{name}"
            program = self._workplace.start(label, command, environment=environment, as_other_user=False)
            self._programs.append(program)
        for name, program in zip(urls, self._programs):
            program.wait_until(lambda: is_ready(self.ports[name]), "ready")

    def kill(self) -> None:
        for program in self._programs:
            program.kill()

    def command_line(self, *arguments: str) -> list[str]:
        return [str(self._binary), *arguments]

    def command_environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self._urls.commands, "TOLLGATE_LOG": "warn"}

    def command(self, *arguments: str) -> str:
        """Runs a command of Tollgate on this database, and returns its output."""
        return self._workplace.run(self.command_line(*arguments), self.command_environment(), COMMAND_SECONDS)

    def create_tenant(self) -> str:
        """Creates the tenant of the test. Returns its admin key."""
        options = ["--prefix", "ta_", "--max-keys", "1000", "--default-scopes", "write", "--json"]
        made: Any = json.loads(self.command("tenant", "create", "cluster", *options))
        return str(made["admin_key"])


def is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
