"""Finds the time at which the database begins to accept writes. Writes to it every 50 ms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psycopg

from workplace import Broken

INTERVAL_SECONDS = 0.05
# The minimum that libpq allows.
CONNECT_SECONDS = 2
# One success is not enough, because a load balancer that has just started distributes connections among all
# servers.
SUCCESSES = 5

TIMELINE = """
    SELECT CASE WHEN NOT pg_is_in_recovery()
           THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END
"""
SCHEMA = """
    CREATE SCHEMA cluster_test AUTHORIZATION tollgate;
    CREATE TABLE cluster_test.probe (writes bigint NOT NULL);
    ALTER TABLE cluster_test.probe OWNER TO tollgate;
    INSERT INTO cluster_test.probe VALUES (0);
"""


class Probe:
    """Writes to the database through several paths: the ports of servers or of a load balancer. A write counts only if
    the server has at least the given timeline. So a write on the old primary does not count."""

    def __init__(self, url: Callable[[int], str], ports: Sequence[int], timeline: int) -> None:
        self._url = url
        self._timeline = timeline
        self._found = threading.Event()
        self._since = 0.0
        self._lock = threading.Lock()
        self._end = False
        for port in ports:
            threading.Thread(target=self._run, args=(port,), daemon=True).start()

    def wait(self, seconds: float, what: str) -> float:
        """Waits for a path to open, and returns the time of its first successful write."""
        found = self._found.wait(seconds)
        self._end = True
        if not found:
            raise Broken(f"timed out after {seconds:.0f} s: {what}")
        return self._since

    def _run(self, port: int) -> None:
        successes, since = 0, 0.0
        while not self._end and not self._found.is_set():
            begun = time.monotonic()
            if self._write(port):
                successes += 1
                since = since if successes > 1 else time.monotonic()
            else:
                successes = 0
            if successes == SUCCESSES:
                with self._lock:
                    self._since = since
                self._found.set()
            time.sleep(max(0, begun + INTERVAL_SECONDS - time.monotonic()))

    def _write(self, port: int) -> bool:
        try:
            with psycopg.connect(self._url(port), autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
                row = connection.execute(TIMELINE).fetchone()
                if row is None or row[0] is None or row[0] < self._timeline:
                    return False
                connection.execute("UPDATE cluster_test.probe SET writes = writes + 1")
                return True
        except psycopg.Error:
            return False


def timeline(url: str) -> int:
    """Returns the timeline of a primary."""
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        row = connection.execute(TIMELINE).fetchone()
    if row is None or row[0] is None:
        raise Broken("the server is a standby")
    return int(row[0])
