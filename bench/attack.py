"""Measures the effect of an attack with unknown keys on valid keys and on memory."""

import threading

from client import Connection, gated_request
from database import key_text
from measure import Outcome, Row, bounded_row
from processes import Broken
from servers import attack, tollgate_serve

GOOD_KEYS = 1_000
UNKNOWN_KEYS = 40_000_000
# In the first seconds, the server allocates buffers and opens connections. The measurement of
# memory starts afterwards.
WARM_UP_SECONDS = 3
GROWTH_MEBIBYTES = 8


class Customer(threading.Thread):
    """Sends sequential requests with the valid keys until the attack ends."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self._server = server
        self._stopping = False
        self.answers = 0
        self.error = None

    def run(self):
        try:
            with Connection(self._server.port) as connection:
                while not self._stopping:
                    number = self.answers % GOOD_KEYS
                    status, _ = connection.ask(gated_request(self._server.path, key_text(number)))
                    if status != 200:
                        raise Broken(f"a valid key got status {status} during the attack")
                    self.answers += 1
        except Broken as error:
            self.error = error

    def stop(self):
        self._stopping = True
        self.join()
        if self.error is not None:
            raise self.error


def measure(bench, pair, database):
    url = bench.postgres.url(database)
    seconds = bench.settings.rounds * bench.settings.seconds
    with tollgate_serve(bench.workplace, bench.current, "attacked", url, cache_entries=100_000) as server:
        server.warm(range(GOOD_KEYS))
        attack(bench.workplace, server, UNKNOWN_KEYS, WARM_UP_SECONDS)
        before = server.program.resident_bytes()
        customer = Customer(server)
        customer.start()
        refused = attack(bench.workplace, server, UNKNOWN_KEYS, seconds)
        customer.stop()
        grown = (server.program.resident_bytes() - before) / 2**20
        keys = server.metric("tollgate_cache_keys")
        missed_before = server.metric('tollgate_cache_lookups_total{result="miss"}')
        server.warm(range(GOOD_KEYS))
        missed = server.metric('tollgate_cache_lookups_total{result="miss"}') - missed_before
    return Outcome(
        rows=[
            bounded_row(pair, f"evicted, of {GOOD_KEYS:,} valid keys", missed, 0, "keys"),
            bounded_row(pair, "growth of resident memory", grown, GROWTH_MEBIBYTES, "MiB", 1),
            Row(
                pair,
                f"{refused / seconds:,.0f} refusals of unknown keys per second for {seconds} s",
                f"{customer.answers:,} responses to valid keys; {keys:,.0f} keys in the cache",
            ),
        ]
    )
