#!/usr/bin/env python3
"""Runs a command together with a temporary demo server, which uses a new directory and free ports.

    python3 scripts/demo_server.py [--timeout SECONDS] COMMAND [ARGUMENT]...

starts `tollgate demo`, runs the command and stops the server with SIGTERM. The command gets the
variables TOLLGATE_URL and TOLLGATE_METRICS_URL, and the variables that the output of the demo exports,
such as TRONAGG_ADMIN_KEY. The exit status is the exit status of the command. It is 1 if the server does
not start or does not stop cleanly, and 124 if the command takes longer than the timeout. As a module, this
file exports `DemoServer`.

The binary is target/debug/tollgate, or the binary that TOLLGATE_BIN names. This program needs only Python's
standard library.
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
# Matches only plain values. An export with `$(…)` needs the user's shell.
EXPORT = re.compile(r"^\s*export ([A-Z][A-Z0-9_]*)=([^$]*)$")
# Clients can use the server once the demo has printed all of these.
NEEDED = ("TRONAGG_ADMIN_KEY", "TRADETALLY_ADMIN_KEY", "TRADETALLY_TEST_ADMIN_KEY")

START_SECONDS = 120
STOP_SECONDS = 30


class DemoFailed(Exception):
    """Raised if the server did not start, or did not stop cleanly."""


class DemoServer:
    """A context manager. The server is ready inside the `with` block. The end of the block stops the
    server and removes its directory."""

    def __enter__(self):
        # The directory is under /tmp, because Postgres may run as another user, who needs access.
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-demo-", dir="/tmp"))
        self.directory.chmod(0o755)
        # curl reads this empty file instead of the user's ~/.curlrc, because CURL_HOME names its
        # directory.
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
                    # The server must not read a developer's .env in the repository.
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
        """Returns the caller's environment, with the variables that a command needs to use the server."""
        return {**os.environ, **self._additions()}

    def command_environment(self):
        """Returns the environment for commands of `tollgate`, which makes them use the server's database."""
        return {**self._settings, **self._additions()}

    def _additions(self):
        return {
            **self.exports,
            "TOLLGATE_URL": self.url,
            "TOLLGATE_METRICS_URL": self.metrics_url,
            # With these variables, requests use neither a proxy nor the user's ~/.curlrc.
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "CURL_HOME": str(self.directory),
        }

    def log_tail(self, lines=40):
        text = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(["the end of the server's log:", *text[-lines:]])

    def _read(self):
        """Reads the output of the server until it exits, so that the server never blocks on a full
        pipe."""
        for raw in self.process.stdout:
            line = raw.decode(errors="replace").rstrip()
            with self._changed:
                if found := READY.match(line):
                    self.url = found[1]
                elif found := EXPORT.match(line):
                    # Like a shell, this removes quotes and a trailing comment from the value.
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
                    raise DemoFailed(f"missing after {START_SECONDS} s: {', '.join(missing)}\n{self.log_tail()}")

    def _missing(self):
        ready = [] if self.url else ["the line «Tollgate is ready: …»"]
        return ready + [name for name in NEEDED if name not in self.exports]

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _remove(self):
        # A Postgres that is still stopping may write another file.
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
    # The server must not inherit settings of the user, in particular DATABASE_URL.
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
    """Finds free addresses. All sockets stay open until the last address is known, so that the
    addresses differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{taken.getsockname()[1]}" for taken in sockets]
    for taken in sockets:
        taken.close()
    return addresses


def exit_on_signals():
    """Makes signals raise an exception, so that `with` blocks clean up."""

    def leave(number, _frame):
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def run(command, timeout):
    with DemoServer() as server:
        # The command runs in its own session, so that this program can end all of its processes. Ctrl-C
        # reaches only this program, which then ends the command.
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
    parser = argparse.ArgumentParser(description="Runs a command together with a demo server.")
    parser.add_argument("--timeout", type=float, help="maximum duration of the command in seconds")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("a command is required")
    exit_on_signals()
    try:
        sys.exit(run(arguments.command, arguments.timeout))
    except DemoFailed as failure:
        sys.exit(f"demo server: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
