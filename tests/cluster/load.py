"""The clients. They make purchases, create and revoke keys, and send requests with live and revoked keys to both
nodes."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from admin_keys import AdminKeys
from client import Answer, Client
from nodes import Nodes
from record import Purchase, Record, RevokedKey

AUTHORIZE = "/v1/authorize/cluster/live"
CREDIT = 1_000_000
MINOR_UNITS = 1_000_000
HOT_ACCOUNT = "hot"
RETRY_SECONDS = 0.05
# The number of live keys that each client keeps before it revokes one.
LIVE_KEYS = 8
# How long `turn_off` waits for requests in flight.
DRAIN_SECONDS = 30
FINISH_SECONDS = 60


@dataclass
class Pace:
    """The number of clients of each kind, and the pauses between their rounds."""

    hot_buyers: int = 4
    buyers: int = 4
    revokers: int = 4
    pause: float = 0.04
    live_pause: float = 0.025
    # The times after a revocation, in seconds, at which a client sends another request with the revoked key.
    again: tuple[float, ...] = (0.3, 1.5, 4.0)


class Load:
    """Runs the clients in a separate thread. They begin requests only while the load is on."""

    def __init__(self, nodes: Nodes, admin_key: str, record: Record, pace: Pace) -> None:
        self.record = record
        self._pace = pace
        self._nodes = nodes
        self._admin = {"Authorization": f"Bearer {admin_key}"}
        self._loop = asyncio.new_event_loop()
        self._on = asyncio.Event()
        self._in_flight = 0
        self._stopping = False
        self._due: list[tuple[float, RevokedKey]] = []
        self._live_key = ""
        self._failed: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def accounts(self) -> list[str]:
        """Returns the accounts that make purchases."""
        return [HOT_ACCOUNT, *(f"buyer-{number}" for number in range(self._pace.buyers))]

    def start(self) -> None:
        """Creates the accounts, and starts the clients. The load is off."""
        self._thread.start()
        self._started.wait()
        self.check()

    def turn_on(self) -> None:
        self._loop.call_soon_threadsafe(self._on.set)

    def turn_off(self) -> None:
        """Stops new requests, and returns when every request in flight has a response."""
        self._loop.call_soon_threadsafe(self._on.clear)
        time.sleep(0.05)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._in_flight and time.monotonic() < deadline:
            time.sleep(0.01)
            self.check()

    def finish(self) -> None:
        """Stops all clients. Before a client stops, it retries its purchase until it has a response."""
        self._stopping = True
        self.turn_on()
        self._thread.join(FINISH_SECONDS)
        self.check()

    def check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._clients())
        except BaseException as error:
            self._failed = error
        finally:
            self._started.set()

    async def _clients(self) -> None:
        buying_keys, revoking = await self._prepare()
        self._started.set()
        admin_keys = AdminKeys(self._nodes, self.record, self._admin_request)
        clients: list[Coroutine[Any, Any, None]] = [self._check_again(), admin_keys.run(lambda: self._stopping)]
        clients += [self._buy(HOT_ACCOUNT, buying_keys[HOT_ACCOUNT], f"h{n}") for n in range(self._pace.hot_buyers)]
        clients += [self._buy(name, buying_keys[name], "p") for name in self.accounts[1:]]
        clients += [self._revoke(account) for account in revoking]
        clients += [self._present_live_key(node) for node in self._nodes.ports for _ in range(2)]
        await asyncio.gather(*clients)

    async def _prepare(self) -> tuple[dict[str, str], list[str]]:
        self._on.set()
        connections = self._connections()
        revoking = [f"revoker-{number}" for number in range(self._pace.revokers)]
        for account in [*self.accounts, *revoking]:
            answer = await self._admin_call(connections["A"], "PUT", f"/v1/accounts/{account}", {})
            self._demand(answer, 201)
        keys = {}
        for account in self.accounts:
            body = {"amount": str(CREDIT), "reference": "start"}
            answer = await self._admin_call(connections["A"], "POST", f"/v1/accounts/{account}/credits", body, "start")
            self._demand(answer, 201)
            keys[account] = (await self._create_key(connections["A"], account))[1]
        self._live_key = keys[HOT_ACCOUNT]
        self._on.clear()
        return keys, revoking

    def _demand(self, answer: Answer, status: int) -> None:
        if answer.status != status:
            raise RuntimeError(f"expected {status}: {self.record.describe(answer)}")

    async def _create_key(self, connection: Client, account: str) -> tuple[str, str]:
        answer = await self._admin_call(connection, "POST", f"/v1/accounts/{account}/keys", {"name": "cluster"})
        self._demand(answer, 201)
        made = json.loads(answer.body)
        return made["id"], made["key"]

    async def _buy(self, account: str, key: str, label: str) -> None:
        """Makes purchases at random nodes. Retries each purchase until it gets a response."""
        connections, number = self._connections(), 0
        while not self._stopping:
            number += 1
            purchase = Purchase(account, f"{label}-{number}", random.randint(1, 900))
            self.record.purchases.append(purchase)
            await self._buy_one(connections, key, purchase)
            if number % 10 == 0:
                # The account must be charged only once for a repeated purchase.
                await self._buy_one(connections, key, purchase)
            await asyncio.sleep(self._pause())

    async def _buy_one(self, connections: dict[str, Client], key: str, purchase: Purchase) -> None:
        amount = f"{purchase.amount // MINOR_UNITS}.{purchase.amount % MINOR_UNITS:06d}"
        body = json.dumps({"amount": amount, "reference": purchase.idempotency_key})
        headers = {"X-API-Key": key, "Idempotency-Key": purchase.idempotency_key}
        while True:
            connection = random.choice(list(connections.values()))
            answer = await self._ask(connection, "purchase", "POST", "/v1/purchases", headers, body)
            if not answer.failed():
                break
            await asyncio.sleep(RETRY_SECONDS)
        if answer.status != 201:
            self.record.wrong_answer(answer, "201 for a purchase")
            return
        named = json.loads(answer.body)["id"]
        if purchase.id is None:
            purchase.id = named
            self.record.count("purchases")
        elif purchase.id != named:
            self.record.wrong_answer(answer, f"the purchase {purchase.id} again")

    async def _revoke(self, account: str) -> None:
        """Creates keys, and revokes the oldest of its live keys. So the keys that it revokes after a failover are
        keys that the old primary still shows as live. The client does not use some keys before it revokes them,
        so that no node has cached them."""
        connections, live = self._connections(), deque[RevokedKey]()
        while not self._stopping:
            key = await self._create_one(connections, account)
            if key is None:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            live.append(key)
            if random.random() < 0.7:
                for answer in await self._present(connections, key.text):
                    if answer.status == 401:
                        self.record.refused_new.append(answer)
                    elif answer.status != 200 and not answer.failed():
                        self.record.wrong_answer(answer, f"200 for the new key {key.id}")
            if len(live) > LIVE_KEYS:
                key = await self._revoke_one(connections, live.popleft())
                for _ in range(3):
                    await self._must_refuse(connections, key)
                now = time.monotonic()
                self._due += [(now + later, key) for later in self._pace.again]
            await asyncio.sleep(self._pause())

    async def _create_one(self, connections: dict[str, Client], account: str) -> RevokedKey | None:
        either = random.choice(list(connections.values()))
        answer = await self._admin_call(either, "POST", f"/v1/accounts/{account}/keys", {"name": "cluster"})
        if answer.status == 201:
            made = json.loads(answer.body)
            return RevokedKey(account, made["id"], made["key"], 0.0)
        if not answer.failed():
            self.record.wrong_answer(answer, "201 for a new key")
        return None

    async def _revoke_one(self, connections: dict[str, Client], key: RevokedKey) -> RevokedKey:
        while True:
            either = random.choice(list(connections.values()))
            answer = await self._admin_call(either, "POST", f"/v1/accounts/{key.account}/keys/{key.id}/revoke", {})
            if answer.status == 200:
                key = replace(key, returned=answer.ended)
                self.record.revoked.append(key)
                self.record.count("revocations")
                return key
            if not answer.failed():
                self.record.wrong_answer(answer, f"200 for the revocation of {key.id}")
            await asyncio.sleep(RETRY_SECONDS)

    async def _check_again(self) -> None:
        """Sends requests with each revoked key a few seconds after its revocation, and with random revoked
        keys."""
        connections = self._connections()
        while not self._stopping:
            now = time.monotonic()
            due = [key for when, key in self._due if when <= now]
            self._due = [(when, key) for when, key in self._due if when > now]
            if self.record.revoked:
                due.append(random.choice(self.record.revoked))
            for key in due:
                await self._must_refuse(connections, key)
            await asyncio.sleep(self._pause())

    async def _must_refuse(self, connections: dict[str, Client], key: RevokedKey) -> None:
        for answer in await self._present(connections, key.text):
            if answer.status == 200:
                self.record.late_pass(answer, key.id, key.returned)
            elif answer.status != 401 and not answer.failed():
                self.record.wrong_answer(answer, f"401 for the revoked key {key.id}")

    async def _present(self, connections: dict[str, Client], key: str) -> list[Answer]:
        headers = {"X-API-Key": key}
        asked = (self._ask(connection, "authorize", "GET", AUTHORIZE, headers) for connection in connections.values())
        return list(await asyncio.gather(*asked))

    async def _present_live_key(self, node: str) -> None:
        connection = self._connections()[node]
        while not self._stopping:
            headers = {"X-API-Key": self._live_key}
            answer = await self._ask(connection, "authorize live key", "GET", AUTHORIZE, headers)
            if answer.status != 200 and not answer.failed():
                self.record.wrong_answer(answer, "200 for a live key")
            await asyncio.sleep(self._pace.live_pause)

    def _connections(self) -> dict[str, Client]:
        return {name: Client(name, port) for name, port in self._nodes.ports.items()}

    def _pause(self) -> float:
        # Random pauses prevent the clients from being synchronized with each other and with periodic work of the
        # nodes.
        return random.uniform(0, 2 * self._pace.pause)

    async def _admin_call(
        self, connection: Client, method: str, path: str, body: object, idempotency_key: str | None = None
    ) -> Answer:
        headers = dict(self._admin)
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        return await self._ask(connection, f"{method} {path}", method, path, headers, json.dumps(body))

    async def _admin_request(self, connection: Client, admin_key: str) -> Answer:
        headers = {"Authorization": f"Bearer {admin_key}"}
        return await self._ask(connection, "admin key", "GET", "/v1/accounts?limit=1", headers)

    async def _ask(
        self, connection: Client, kind: str, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> Answer:
        await self._on.wait()
        self._in_flight += 1
        try:
            answer = await connection.ask(kind, method, path, headers, body)
        finally:
            self._in_flight -= 1
        self.record.answered(answer)
        return answer
