"""Starts the programs of the benchmark with their directory, cores and environment, and ends all of them."""

import ctypes
import os
import resource
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

START_SECONDS = 60
STOP_SECONDS = 30

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Broken(Exception):
    """Raised if a program failed or returned a wrong response. The measurement is then invalid."""


@dataclass
class Ended:
    """A program that has exited with status 0."""

    output: str
    # Average CPU use of the program. 1.0 is a whole core.
    busy: float


class Workplace:
    """A temporary directory and the programs that run in it. The end of the `with` block stops the programs and
    removes the directory."""

    def __enter__(self):
        # /var/tmp is on disk even if /tmp is in memory. Postgres may run as another user, who needs access.
        self.directory = Path(tempfile.mkdtemp(prefix="tollgate-bench-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.directory, ignore_errors=True)
        if self.directory.exists():
            print(f"could not remove {self.directory}")

    @contextmanager
    def start(self, name, arguments, *, environment=None, cores=None, user=None, stop=signal.SIGTERM):
        """Starts a program that runs until the `with` block ends."""
        program = Program(self, name, self._start(name, arguments, environment, cores, user, stop))
        try:
            yield program
        finally:
            program.end(stop)

    def run(self, name, arguments, *, environment=None, cores=None, user=None, directory=None, seconds=600):
        """Runs a program until it exits."""
        before, since = children_cpu(), time.monotonic()
        process = self._start(name, arguments, environment, cores, user, signal.SIGKILL, directory)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Broken(f"{shlex.join(map(str, arguments))}: took longer than {seconds} s") from None
        finally:
            end_session(process)
        if status != 0:
            raise Broken(f"{shlex.join(map(str, arguments))}: ended with status {status}\n{self.last_words(name)}")
        return Ended(self.output(name), (children_cpu() - before) / (time.monotonic() - since))

    def output(self, name):
        return (self.directory / f"{name}.out").read_text(errors="replace")

    def last_words(self, name):
        """Returns the last lines that a failed program wrote to stdout and stderr."""
        errors = (self.directory / f"{name}.err").read_text(errors="replace")
        return (self.output(name)[-1000:] + errors[-2000:]).strip()

    def _start(self, name, arguments, environment, cores, user, death_signal, directory=None):
        def before_exec():
            # If this program is killed, the kernel kills the new program.
            LIBC.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if cores is not None:
                os.sched_setaffinity(0, cores)

        other_user = {}
        if user is not None:
            other_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        place = self.directory / name
        with open(f"{place}.out", "wb") as output, open(f"{place}.err", "wb") as errors:
            try:
                return subprocess.Popen(
                    [str(argument) for argument in arguments],
                    # The programs must not read a developer's .env in the repository.
                    cwd=directory or self.directory,
                    env=environment_of_programs(environment or {}),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    # Ctrl-C reaches only this program, which ends the others in order.
                    start_new_session=True,
                    preexec_fn=before_exec,
                    **other_user,
                )
            except OSError as error:
                raise Broken(f"{arguments[0]}: {error.strerror}") from error


class Program:
    """A program that runs in the background."""

    def __init__(self, workplace, name, process):
        self._workplace = workplace
        self.name = name
        self._process = process

    def wait_until(self, ready, what):
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                self._fail(f"is not {what} after {START_SECONDS} s")
            time.sleep(0.05)

    def output(self):
        return self._workplace.output(self.name)

    def cpu_seconds(self):
        """Returns the CPU time of all threads of the program so far, in seconds."""
        own = fields_of(self._process.pid)
        return (own.user + own.system) / os.sysconf("SC_CLK_TCK")

    def cpu_seconds_with_children(self):
        """Returns the CPU time of the program, of its children and of the children that have ended."""
        own = fields_of(self._process.pid)
        ticks = own.user + own.system + own.ended_user + own.ended_system
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # The process may end at any time.
                child = fields_of(process.name)
                if child.parent == self._process.pid:
                    ticks += child.user + child.system
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def check(self):
        """Raises Broken if the program has ended."""
        if self._process.poll() is not None:
            self._fail(f"ended with status {self._process.returncode}")

    def end(self, stop):
        # `send_signal` does nothing if the program has already exited.
        self._process.send_signal(stop)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            end_session(self._process)

    def _fail(self, how):
        raise Broken(f"{self.name} {how}\n{self._workplace.last_words(self.name)}")


class ProcessTimes(NamedTuple):
    """The parent of a process, and the CPU time of the process and of its children that have ended, in ticks."""

    parent: int
    user: int
    system: int
    ended_user: int
    ended_system: int


def fields_of(process_id):
    # The name of the program, in parentheses, may contain spaces. The parent is field 4, and the times are the
    # fields 14 to 17.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return ProcessTimes(int(fields[1]), *map(int, fields[11:15]))


class Cores:
    """The cores that the server and its client are pinned to."""

    def __init__(self):
        self.usable = sorted(os.sched_getaffinity(0))

    def split(self, worker_threads):
        """Returns the cores for a server with this many threads and the cores for the client. Both are None
        without pinning."""
        if len(self.usable) <= worker_threads:
            return None, None
        return set(self.usable[:worker_threads]), set(self.usable[worker_threads:])

    def describe(self, worker_threads):
        server, client = self.split(worker_threads)
        if server is None:
            return "nothing is pinned"
        return f"the server is pinned to {named(server)}, and wrk to {named(client)}"


def named(cores):
    return f"core{'s'[: len(cores) > 1]} {', '.join(map(str, sorted(cores)))}"


def environment_of_programs(additional):
    # The programs must not inherit settings of the user, in particular DATABASE_URL.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith(("TOLLGATE_", "TOKIO_", "PG"))
    }
    return {**kept, **additional}


def children_cpu():
    """Returns the CPU time in seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def end_session(process):
    """Stops a running program and all of its child processes."""
    # After the wait, the system may reuse the process id.
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def find_program(name):
    # Debian installs haproxy in /usr/sbin, which is not on every user's PATH.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise Broken(f"{name} is not installed")
    return found
