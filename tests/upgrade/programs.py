"""The programs of the test: a temporary Postgres, nodes, and commands."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

START_SECONDS = 60
STOP_SECONDS = 40
COMMAND_SECONDS = 60

# A node logs this line when it begins to serve, first with its own address, then with the address of its metrics.
SERVING = re.compile(r"serving.*?address[\":=]+([0-9.]+):([0-9]+)")

# This shell script waits for the end of its standard input, and then removes the directory. The input ends even if
# the test is killed.
KEEP_POSTGRES = 'echo "$DATABASE_URL"; cat >/dev/null; rm -rf "$1"'


class Broken(Exception):
    """Raised if the test cannot continue, because a program failed or did not behave as required."""


class Postgres:
    """A temporary Postgres and a directory for logs. Both are removed when the `with` block ends."""

    def __enter__(self) -> Postgres:
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-upgrade-", dir="/tmp"))
        script = ROOT / "scripts" / "with-postgres.sh"
        self._process = subprocess.Popen(
            [str(script), "--empty", "sh", "-c", KEEP_POSTGRES, "sh", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # In a new session, Ctrl-C reaches only this program, which stops the nodes first.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self._end()
            raise Broken("Postgres did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        shutil.rmtree(self.directory, ignore_errors=True)


class Version:
    """A binary, and the settings of all programs that run it."""

    def __init__(self, name: str, binary: Path, postgres: Postgres, lease_millis: int) -> None:
        self.name = name
        self.binary = binary
        self.directory = postgres.directory
        # The programs must not inherit settings of the user.
        kept = {
            name: value
            for name, value in os.environ.items()
            if name != "DATABASE_URL" and not name.startswith(("TOLLGATE_", "TOKIO_", "PG"))
        }
        self.environment = {
            **kept,
            "DATABASE_URL": postgres.url,
            "TOLLGATE_LISTEN": "127.0.0.1:0",
            "TOLLGATE_METRICS_LISTEN": "off",
            "TOLLGATE_LEASE": f"{lease_millis}ms",
            # With this setting, three nodes and a command need fewer connections than Postgres's default limit of
            # 100.
            "TOLLGATE_DATABASE_CONNECTIONS": "8",
        }

    def run(self, *arguments: str) -> str:
        """Runs a command, which must succeed. Returns its output."""
        command = [str(self.binary), *arguments]
        try:
            ended = subprocess.run(
                command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise Broken(f"`tollgate {' '.join(arguments)}` of the {self.name} version hangs") from error
        if ended.returncode != 0:
            raise Broken(
                f"`tollgate {' '.join(arguments)}` of the {self.name} version ended with status"
                f" {ended.returncode}\n{ended.stdout}{ended.stderr}"
            )
        return ended.stdout

    def create_tenant(self, slug: str) -> str:
        """Creates a tenant, and returns its admin key."""
        arguments = ["--prefix", "ta_", "--currency", "TRX", "--decimals", "6", "--default-scopes", "write"]
        tenant: dict[str, Any] = json.loads(self.run("tenant", "create", slug, *arguments, "--json"))
        return str(tenant["admin_key"])


class Node:
    """A service that runs as a process."""

    def __init__(self, name: str, version: Version) -> None:
        self.name = name
        self.version = version
        self._log = version.directory / f"{name}.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*killed_with_this_program(), str(version.binary), "serve"],
                cwd=version.directory,
                env=version.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.port = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.version.name})"

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                raise Broken(f"node {self} ended with status {self._process.returncode}\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise Broken(f"node {self} is not ready after {START_SECONDS} s\n{self.last_words()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        if self.port == 0:
            serving = SERVING.search(self._log.read_text(errors="replace"))
            if serving is None:
                return False
            self.port = int(serving[2])
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def terminate(self) -> None:
        """Sends SIGTERM, and waits until the node has finished its requests in flight and exited."""
        self._process.terminate()

    def wait_until_ended(self) -> None:
        try:
            status = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Broken(f"node {self} did not end within {STOP_SECONDS} s of SIGTERM\n{self.last_words()}") from error
        if status != 0:
            raise Broken(f"node {self} ended with status {status} after SIGTERM\n{self.last_words()}")

    def kill(self) -> None:
        """Kills the node, unless it has exited."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join([f"the end of the log of node {self}:", *lines[-20:]])


def killed_with_this_program() -> list[str]:
    """Returns the start of a command line that makes the kernel kill a command if this program is killed. It is
    empty if `setpriv` is not installed."""
    prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    if shutil.which(prefix[0]) is None:
        return []
    works = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    return prefix if works else []
