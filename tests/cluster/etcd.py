"""Runs etcd, in which Patroni stores the leader lock."""

from __future__ import annotations

import http.client

from workplace import Program, Workplace, find_program


class Etcd:
    def __init__(self, workplace: Workplace) -> None:
        self.port = workplace.free_port()
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{workplace.free_port()}"
        command = [find_program("etcd"), "--name", "etcd", "--data-dir", str(workplace.folder("etcd"))]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"etcd={peer}", "--log-level", "warn"]
        self.program: Program = workplace.start("etcd", command)

    def wait(self) -> None:
        self.program.wait_until(self._is_healthy, "healthy")

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
