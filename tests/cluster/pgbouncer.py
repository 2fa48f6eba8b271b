"""Runs PgBouncer in session mode in front of HAProxy. All other settings have their defaults.

By default PgBouncer retries a failed login only after 15 s (`server_login_retry`). So after an outage the path through
PgBouncer opens up to 15 s later than the path through HAProxy.
"""

from __future__ import annotations

from workplace import Program, Workplace, find_program

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_file = {users}
pool_mode = session
"""


class PgBouncer:
    def __init__(self, workplace: Workplace, target: int, users: dict[str, str]) -> None:
        self.port = workplace.free_port()
        self._workplace = workplace
        lines = "".join(f'"{name}" "{password}"\n' for name, password in users.items())
        listed = workplace.file("pgbouncer-users.txt", lines)
        text = CONFIGURATION.format(target=target, port=self.port, users=listed)
        self._configuration = workplace.file("pgbouncer.ini", text)
        self._program: Program | None = None

    def start(self) -> None:
        self._program = self._workplace.start("pgbouncer", [find_program("pgbouncer"), self._configuration])

    def stop(self) -> None:
        if self._program is not None:
            self._program.kill()
