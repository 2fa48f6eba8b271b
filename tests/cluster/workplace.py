"""The temporary directory of the test, and the programs that run in it. When the `with` block ends, all of them
stop."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STOP_SECONDS = 10


class Broken(Exception):
    """Raised if the test cannot continue, because a program failed or the cluster did not reach a state in time."""


class Workplace:
    def __enter__(self) -> Workplace:
        # The directory is under /tmp, because another user needs access, and because a socket's path must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-cluster-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        # Postgres and PgBouncer refuse to run as root.
        self.user = other_user() if os.geteuid() == 0 else None
        if self.user is not None:
            os.chown(self.logs, self.user.pw_uid, self.user.pw_gid)
        self.keep_logs = False
        self._taken: set[int] = set()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._end_all()
        # A Postgres that is starting or was just killed may still write a file.
        for _ in range(20):
            for path in self.directory.iterdir():
                if path != self.logs or not self.keep_logs:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            if all(path == self.logs for path in self.directory.iterdir()):
                break
            self._end_all()
            time.sleep(0.2)
        if not any(self.directory.iterdir()):
            self.directory.rmdir()

    def folder(self, name: str) -> Path:
        """Creates a directory that belongs to the user who runs the database."""
        place = self.directory / name
        place.mkdir(mode=0o700)
        self.give(place)
        return place

    def file(self, name: str, text: str) -> Path:
        """Creates a file that only the user who runs the database can read."""
        place = self.directory / name
        place.touch(mode=0o600)
        place.write_text(text)
        self.give(place)
        return place

    def give(self, place: Path) -> None:
        if self.user is not None:
            os.chown(place, self.user.pw_uid, self.user.pw_gid)

    def free_port(self) -> int:
        """Finds a free port that no earlier call has returned."""
        while True:
            with socket.create_server(("127.0.0.1", 0)) as server:
                port: int = server.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port

    def start(
        self,
        name: str,
        command: Sequence[object],
        *,
        environment: dict[str, str] | None = None,
        as_other_user: bool = True,
    ) -> Program:
        """Starts a program, and appends its output to its log. Only the main thread may call this, because the
        kernel kills the program when the thread that started it exits."""
        path = self.logs / f"{name}.log"
        with open(path, "ab") as log:
            try:
                process = subprocess.Popen(
                    [*self._prefix(as_other_user), *map(str, command)],
                    # The programs must not read a developer's .env in the repository.
                    cwd=self.directory,
                    env=program_environment(environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # In a new session, Ctrl-C reaches only this test, which stops the programs in order.
                    start_new_session=True,
                )
            except OSError as error:
                raise Broken(f"{command[0]}: {error.strerror}") from error
        return Program(name, process, path)

    def run(self, command: Sequence[object], environment: dict[str, str], seconds: float) -> str:
        """Runs a command of Tollgate until it exits, and returns its output."""
        words = [str(word) for word in command]
        try:
            ended = subprocess.run(
                words,
                cwd=self.directory,
                env=program_environment(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                text=True,
            )
        except subprocess.TimeoutExpired as error:
            raise Broken(f"{shlex.join(words)}: took longer than {seconds} s") from error
        if ended.returncode != 0:
            said = f"{ended.stdout}{ended.stderr}".strip()[-2000:]
            raise Broken(f"{shlex.join(words)}: ended with status {ended.returncode}\n{said}")
        return ended.stdout

    def _prefix(self, as_other_user: bool) -> list[str]:
        # If this test is killed, the kernel terminates the program. Patroni then stops its Postgres.
        prefix = ["setpriv", "--pdeathsig", "TERM"]
        if self.user is not None and as_other_user:
            prefix += ["--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--clear-groups"]
            # Root's Python may be in a directory that no other user can read.
            prefix += ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
        return [*prefix, "--"]

    def _end_all(self) -> None:
        """Kills every process that works in the directory or names the directory in its arguments. The name of the
        directory is unique. Postgres is not a child of this process, so only the directory identifies it."""
        deadline = time.monotonic() + STOP_SECONDS
        while found := self._processes():
            for pid in found:
                kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                print(f"could not end the processes {found}")
                return
            time.sleep(0.05)

    def _processes(self) -> list[int]:
        needle = str(self.directory).encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                place = os.readlink(f"/proc/{entry}/cwd").encode()
            except OSError:
                continue
            works_here = place == needle or place.startswith(needle + b"/")
            if state != "Z" and (needle in words or works_here):
                found.append(int(entry))
        return found


class Program:
    """A program that runs in the background."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log = log

    def runs(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
        def ready_or_ended() -> bool:
            if not self.runs():
                raise Broken(f"{self.name} ended with status {self._process.returncode}\n{self.last_words()}")
            return ready()

        try:
            wait_until(ready_or_ended, f"{self.name} is {what}", seconds)
        except TimeoutError as error:
            raise Broken(f"{error}\n{self.last_words()}") from error

    def last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-1500:]


def wait_until(ready: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out after {seconds:.0f} s: {what}")
        time.sleep(0.05)


def kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def children(pid: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(entry))
    return found


def program_environment(additional: dict[str, str]) -> dict[str, str]:
    # The programs must not inherit settings of the user, in particular DATABASE_URL.
    prefixes = ("TOLLGATE_", "TOKIO_", "PG", "ETCD", "PATRONI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    kept.pop("DATABASE_URL", None)
    return {**kept, **additional}


def find_program(name: str) -> str:
    # Debian installs some programs in /usr/sbin, which is not on every user's PATH.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise Broken(f"{name} is not installed")
    return found


def other_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
