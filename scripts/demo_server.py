#!/usr/bin/env python3
"""Runs a demo server with a new directory and free ports while a command needs it.

    python3 scripts/demo_server.py [--timeout SECONDS] COMMAND [ARGUMENT]...

starts `tollgate demo`, runs the command and stops the server with SIGTERM. The command gets the
variables TOLLGATE_URL and TOLLGATE_METRICS_URL, and those that the demo tells its user to export
(such as TRONAGG_ADMIN_KEY). The exit status is that of the command; 1 if the server does not start or
does not stop cleanly; 124 if the command takes longer than the timeout. As a module, it exports
`DemoServer`.

The binary is target/debug/tollgate, or the one in TOLLGATE_BIN. Needs only Python's standard library.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

READY = re.compile(r"^Tollgate is ready: (https?://[^/\s]+)")
# Only a value: what the user's shell is to compute, `$(…)`, is not for us.
EXPORT = re.compile(r"^\s*export ([A-Z][A-Z0-9_]*)=([^$]*)$")
# The server is usable from the outside once all of these have been printed.
NEEDED = ("TRONAGG_ADMIN_KEY", "TRADETALLY_ADMIN_KEY", "TRADETALLY_TEST_ADMIN_KEY")

START_SECONDS = 120
STOP_SECONDS = 30


class DemoFailed(Exception):
    """The server did not start, or did not stop as it should."""


class DemoServer:
    """A context manager: the server is ready inside the block, and gone after it."""

    def __enter__(self):
        # Under /tmp: as root the server's Postgres runs as another user, who must be able to get there.
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-demo-", dir="/tmp"))
        self.directory.chmod(0o755)
        # In the place of the user's own, see `environment`.
        (self.directory / ".curlrc").touch()
        self.log_path = self.directory / "log"
        self.url = None
        self.exports = {}
        self._changed = threading.Condition()
        listen, metrics = free_addresses(2)
        self.metrics_url = f"http://{metrics}"
        self._settings = server_environment(listen, metrics, self.directory / "data")
        try:
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen(
                    [str(binary()), "demo"],
                    # Not in the repository, whose .env belongs to its owner.
                    cwd=self.directory,
                    env=self._settings,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
        except OSError as error:
            self._remove()
            raise DemoFailed(f"{binary()}: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill()
            self._remove()
            raise
        return self

    def __exit__(self, kind, error, traceback):
        failure = None
        try:
            self.process.terminate()
            status = self.process.wait(STOP_SECONDS)
            if status != 0:
                failure = f"the server ended with status {status} instead of 0"
        except subprocess.TimeoutExpired:
            failure = f"the server did not stop within {STOP_SECONDS} s of SIGTERM"
        finally:
            self._kill()
            log = self.log_tail()
            self._remove()
        if failure is not None and kind is None:
            raise DemoFailed(f"{failure}\n{log}")

    def environment(self):
        """What a command needs to use the server, on top of the caller's environment."""
        return {**os.environ, **self._additions()}

    def command_environment(self):
        """The same for commands of `tollgate`: they have the server's settings, so they use its database."""
        return {**self._settings, **self._additions()}

    def _additions(self):
        return {
            **self.exports,
            "TOLLGATE_URL": self.url,
            "TOLLGATE_METRICS_URL": self.metrics_url,
            # A proxy of the machine has no part in this, nor has a ~/.curlrc.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "CURL_HOME": str(self.directory),
        }

    def log_tail(self, lines=40):
        text = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(["the end of the server's log:", *text[-lines:]])

    def _read(self):
        """Keeps reading, so that the server never waits for a full pipe."""
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            with self._changed:
                if found := READY.match(line):
                    self.url = found[1]
                elif found := EXPORT.match(line):
                    # As a shell would read it: quotes and a trailing comment are not the value.
                    words = shlex.split(found[2], comments=True)
                    self.exports[found[1]] = words[0] if words else ""
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        with self._changed:
            while missing := self._missing():
                self._changed.wait(0.2)
                if self.process.poll() is not None:
                    raise DemoFailed(f"the server ended with status {self.process.returncode}\n{self.log_tail()}")
                if time.monotonic() > deadline:
                    raise DemoFailed(f"not printed in {START_SECONDS} s: {', '.join(missing)}\n{self.log_tail()}")

    def _missing(self):
        ready = [] if self.url else ["the line «Tollgate is ready: …»"]
        return ready + [name for name in NEEDED if name not in self.exports]

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _remove(self):
        # A Postgres that is still on its way out may yet write a file.
        for _ in range(20):
            shutil.rmtree(self.directory, ignore_errors=True)
            if not self.directory.exists():
                return
            time.sleep(0.25)
        print(f"could not remove {self.directory}", file=sys.stderr)


def binary():
    target = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
    return Path(os.environ.get("TOLLGATE_BIN", target / "debug" / "tollgate")).absolute()


def server_environment(listen, metrics, data):
    # No setting of the user's reaches the server: above all no DATABASE_URL.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith(("TOLLGATE_", "PG"))
    }
    for name in ("PG_BINDIR", "TOLLGATE_LOG"):
        if name in os.environ:
            kept[name] = os.environ[name]
    return {
        **kept,
        "TOLLGATE_LISTEN": listen,
        "TOLLGATE_METRICS_LISTEN": metrics,
        "TOLLGATE_DATA_DIR": str(data),
    }


def free_addresses(count):
    """Addresses that nobody listens on; all are held until the last is known, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{taken.getsockname()[1]}" for taken in sockets]
    for taken in sockets:
        taken.close()
    return addresses


def exit_on_signals():
    """Lets `with` blocks clean up when this program is told to end."""

    def leave(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def run(command, timeout):
    with DemoServer() as server:
        # A session of its own, so that all of it can be ended; Ctrl-C reaches us, and through us it.
        process = subprocess.Popen(command, env=server.environment(), start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            print(f"{shlex.join(command)}: took longer than {timeout} s", file=sys.stderr)
            status = 124
        finally:
            end_session(process)
        if status != 0:
            print(server.log_tail(), file=sys.stderr)
        return status


def end_session(process):
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main():
    parser = argparse.ArgumentParser(description="Runs a command beside a demo server.")
    parser.add_argument("--timeout", type=float, help="seconds that the command may take")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("a command is needed")
    exit_on_signals()
    try:
        sys.exit(run(arguments.command, arguments.timeout))
    except DemoFailed as failure:
        sys.exit(f"demo server: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
