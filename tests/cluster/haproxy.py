"""Runs HAProxy, which sends every connection to the primary."""

from __future__ import annotations

from collections.abc import Sequence

from patroni_cluster import Member
from workplace import Program, Workplace, find_program

CONFIGURATION = """\
global
    log stdout format raw local0 notice
    maxconn 500
defaults
    log global
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout check 500ms
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 300ms fall 2 rise 1{cut}
{servers}
"""


class HaProxy:
    def __init__(self, workplace: Workplace, members: Sequence[Member]) -> None:
        self.port = workplace.free_port()
        self._workplace = workplace
        self._members = members
        self._configuration = workplace.file("haproxy.cfg", "")
        self._program: Program | None = None

    def start(self, cut_sessions: bool = True) -> None:
        """Starts HAProxy. With `cut_sessions` it closes the connections to a server that is down."""
        servers = "\n".join(
            f"    server {member.name} 127.0.0.1:{member.port} check port {member.api_port}"
            for member in self._members
        )
        cut = " on-marked-down shutdown-sessions" if cut_sessions else ""
        self._configuration.write_text(CONFIGURATION.format(port=self.port, cut=cut, servers=servers))
        command = [find_program("haproxy"), "-db", "-f", self._configuration]
        self._program = self._workplace.start("haproxy", command)

    def stop(self) -> None:
        if self._program is not None:
            self._program.kill()
