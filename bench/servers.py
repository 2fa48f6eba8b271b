"""Starts the servers that the benchmark compares, and wrk, which sends the requests."""

import hashlib
import re
import socket
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client import Connection, ask_each, gated_request
from database import account_name, key_text
from measure import Sample, Side
from processes import Broken, Program, find_program

HERE = Path(__file__).resolve().parent

CONNECTIONS = 64

# The path of the endpoint for gateways. It names the tenant of the keys in the databases.
AUTHORIZE = "/v1/authorize/tronagg/live"
# A key that no database of the benchmark contains.
UNKNOWN_KEY = key_text(99_999_999)

WRK_LINE = re.compile(r"^(?:keys|purchases)\.lua: (.*)$", re.MULTILINE)


@dataclass
class Server:
    program: Program
    port: int
    # The path that the requests use.
    path: str
    metrics_port: int | None = None

    def check(self, gated=True):
        """Checks that a gate refuses an unknown key and accepts a valid key, and that a server without a gate
        accepts both."""
        with Connection(self.port) as connection:
            for key, wanted in ((key_text(0), 200), (UNKNOWN_KEY, 401 if gated else 200)):
                status, _ = connection.ask(gated_request(self.path, key))
                if status != wanted:
                    raise Broken(f"{self.program.name} returned {status} instead of {wanted} for {key}")

    def warm(self, numbers):
        """Sends one request with each of these keys, so that the server caches them."""
        ask_each(self.port, self.path, map(key_text, numbers))


    def metric(self, name):
        """Reads the value of a metric. `name` includes the labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics") as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return float(line.rpartition(" ")[2])
        raise Broken(f"{self.program.name} has no metric {name}")


@contextmanager
def bench_server(
    workplace, build, name, database_url, *, gate=True, constant_fields=False, workers, cores=None, cache_entries=None
):
    """Starts the service's listener with a handler that responds "ok", with or without the gate. With
    `constant_fields`, each response has the `RateLimit` fields of a key's and of an account's limit, with the same text
    each time."""
    port = free_port()
    command = [build.program("bench_server"), "--listen", f"127.0.0.1:{port}", "--gate", "on" if gate else "off"]
    if cache_entries is not None:
        command += ["--cache-entries", cache_entries]
    if constant_fields:
        command.append("--constant-fields")
    environment = {"DATABASE_URL": database_url, "TOKIO_WORKER_THREADS": str(workers)}
    with workplace.start(name, command, environment=environment, cores=cores) as program:
        program.wait_until(lambda: "listening on" in program.output(), "listening")
        server = Server(program, port, "/")
        server.check(gate)
        yield server


@contextmanager
def tollgate_serve(workplace, build, name, database_url, *, cache_entries, workers=None, cores=None):
    """Starts the whole service."""
    port, metrics_port = free_port(), free_port()
    environment = {
        "DATABASE_URL": database_url,
        "TOLLGATE_LISTEN": f"127.0.0.1:{port}",
        "TOLLGATE_METRICS_LISTEN": f"127.0.0.1:{metrics_port}",
        "TOLLGATE_CACHE_ENTRIES": str(cache_entries),
    }
    if workers is not None:
        environment["TOKIO_WORKER_THREADS"] = str(workers)
    command = [build.program("tollgate"), "serve"]
    with workplace.start(name, command, environment=environment, cores=cores) as program:
        program.wait_until(lambda: answers(port, "/readyz"), "ready")
        yield Server(program, port, authorize_path(port), metrics_port)


def authorize_path(port):
    """Returns the path of the endpoint for gateways. A base commit may have a path without the tenant."""
    with Connection(port) as connection:
        status, _ = connection.ask(gated_request(AUTHORIZE, UNKNOWN_KEY))
    return "/v1/authorize" if status == 404 else AUTHORIZE


@contextmanager
def haproxy(workplace, path, keys, cores):
    """Starts HAProxy with a map of the hashes of all keys."""
    port = free_port()
    entries = workplace.directory / "keys.map"
    with open(entries, "w") as file:
        for number in range(keys):
            digest = hashlib.sha256(key_text(number).encode()).hexdigest().upper()
            file.write(f"{digest} {account_name(number)}\n")
    configuration = workplace.directory / "haproxy.cfg"
    template = (HERE / "haproxy.cfg").read_text()
    configuration.write_text(template.replace("@ADDRESS@", f"127.0.0.1:{port}").replace("@MAP@", str(entries)))
    command = [find_program("haproxy"), "-db", "-f", configuration]
    with workplace.start("haproxy", command, cores=cores) as program:
        program.wait_until(lambda: answers(port, path), "listening")
        server = Server(program, port, path)
        server.check()
        yield server


def wrk_side(workplace, label, server, *, keys, threads, cores, built=False):
    """Returns a server to which wrk sends random keys. The run fails if a response is not 200."""

    def measure(seconds, seed):
        script = ["keys.lua", "built" if built else "prebuilt", keys, seed]
        return measure_with_wrk(workplace, server, server.path, script, seconds, threads=threads, cores=cores)

    return Side(label, measure)


def fresh_keys_side(workplace, label, server, keys, connections):
    """Returns a server to which wrk sends each of the keys in turn. Each measurement continues with the next
    key."""
    first = 0

    def measure(seconds, _seed):
        nonlocal first
        script = ["keys.lua", "each", keys, first]
        sample = measure_with_wrk(workplace, server, server.path, script, seconds, connections=connections)
        # wrk does not count the requests that have no response at the end.
        first += sample.answers + connections
        return sample

    return Side(label, measure)


def measure_with_wrk(workplace, server, path, script, seconds, *, threads=1, connections=CONNECTIONS, cores=None):
    """Measures with wrk and a script of this directory. The run fails if the server refuses a request."""
    name, *arguments = script
    command = [find_program("wrk"), f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "-s", HERE / name]
    command += [f"http://127.0.0.1:{server.port}{path}", "--", *arguments]
    before = server.program.cpu_seconds()
    ended = workplace.run("wrk", command, cores=cores)
    used = server.program.cpu_seconds() - before
    server.program.check()
    return sample_of(ended, used, threads)


def attack(workplace, server, keys, seconds):
    """Sends unknown keys at full speed. Returns the number of responses. Raises Broken unless all of them are
    refusals."""
    url = f"http://127.0.0.1:{server.port}{server.path}"
    command = [find_program("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    command += ["-s", HERE / "keys.lua", url, "--", "unknown", keys, 1]
    said = read_wrk(workplace.run("wrk-attack", command).output)
    server.program.check()
    if said["refused"] != said["requests"]:
        raise Broken(f"the server did not refuse {said['requests'] - said['refused']} unknown keys")
    return said["requests"]


def read_wrk(output):
    line = WRK_LINE.search(output)
    if not line:
        raise Broken(f"unexpected output of wrk:\n{output}")
    return {name: int(value) for name, _, value in (word.partition("=") for word in line[1].split())}


def sample_of(ended, server_seconds, threads):
    said = read_wrk(ended.output)
    for error in ("refused", "connect", "read", "write", "timeout"):
        if said[error]:
            raise Broken(f"wrk counted an error: {said}")
    if not said["requests"]:
        raise Broken("wrk got no response")
    seconds = said["microseconds"] / 1e6
    return Sample(
        answers_per_second=said["requests"] / seconds,
        server_micros=server_seconds * 1e6 / said["requests"],
        server_busy=server_seconds / seconds,
        client_busy=ended.busy / threads,
        p99=said["p99"] / 1000,
        answers=said["requests"],
    )


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def answers(port, path):
    """Whether the server responds with a status other than 503."""
    try:
        with Connection(port) as connection:
            status, _ = connection.ask(gated_request(path, UNKNOWN_KEY))
            return status != 503
    except (OSError, Broken):
        return False
