"""The clients that send requests during the upgrade. Each client runs in its own thread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from client import Answer, Client, NoAnswer, Rotation
from programs import Broken, Node
from record import Purchase, Record, Revoke

TENANT = "upgrade"
AUTHORIZE = f"/v1/authorize/{TENANT}/live"
OPENING = "1000000"
DECIMALS = 6

BUYERS = 6
REVOKERS = 2
ASKERS = 2
ACCOUNTS = 4

# After each revocation, the client sends requests with this many earlier revoked keys.
ASKED_AGAIN = 3


@dataclass(frozen=True)
class Account:
    name: str
    key: str


def in_decimals(amount: int) -> str:
    return f"{amount // 10**DECIMALS}.{amount % 10**DECIMALS:0{DECIMALS}}"


def order_headers(key: str, order: str) -> dict[str, str]:
    return {"X-API-Key": key, "Idempotency-Key": order}


class Load:
    def __init__(self, rotation: Rotation, record: Record, admin_key: str) -> None:
        self.rotation = rotation
        self.record = record
        self.admin = {"Authorization": f"Bearer {admin_key}"}
        self.accounts: list[Account] = []
        self._stopped = Event()
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Creates the accounts, then starts the clients."""
        client = Client()
        self.accounts = [self._make_account(client, f"buyer-{number}") for number in range(ACCOUNTS)]
        for number in range(REVOKERS):
            self._as_admin(client, "PUT", f"/v1/accounts/revoker-{number}", None)
        clients: list[tuple[Callable[[int], None], int]] = [
            (self._buy, BUYERS),
            (self._revoke, REVOKERS),
            (self._ask, ASKERS),
        ]
        for run, count in clients:
            for number in range(count):
                thread = Thread(target=self._guarded, args=(run, number), daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, revokes: int, purchases: int, seconds: float = 180) -> None:
        """Waits for this many more revocations and purchases."""
        revokes_before, purchases_before = self.record.progress()
        deadline = time.monotonic() + seconds
        while True:
            revokes_now, purchases_now = self.record.progress()
            if revokes_now - revokes_before >= revokes and purchases_now - purchases_before >= purchases:
                return
            if time.monotonic() > deadline or self.record.failures or not self._all_run():
                failures = "\n".join(self.record.failures[:10])
                raise Broken(f"the clients do not make progress: {self.record.progress()}\n{failures}")
            time.sleep(0.05)

    def send(self, client: Client, kind: str, node: Node, *request: Any) -> Answer | None:
        """Sends a request. If there is no response, records a failure and returns `None`."""
        self.record.request(kind)
        try:
            return client.send(node, *request)
        except NoAnswer as error:
            self.record.failure(str(error))
            return None

    def _all_run(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _guarded(self, run: Callable[[int], None], number: int) -> None:
        try:
            run(number)
        except Exception as error:  # Without this line, the test would not notice a client that ended.
            self.record.failure(f"a client ended: {error!r}")
            raise

    def _as_admin(self, client: Client, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        with self.rotation.one() as node:
            answer = client.send(node, method, path, {**self.admin, "Idempotency-Key": path}, body)
        if answer.status != 201:
            raise Broken(f"{method} {path}: status {answer.status}\n{answer.body.decode()}")
        return answer.json()

    def _make_account(self, client: Client, name: str) -> Account:
        path = f"/v1/accounts/{name}"
        self._as_admin(client, "PUT", path, None)
        self._as_admin(client, "POST", f"{path}/credits", {"amount": OPENING})
        key = self._as_admin(client, "POST", f"{path}/keys", {"name": "a key"})
        return Account(name, str(key["key"]))

    def _buy(self, number: int) -> None:
        """Makes purchases, and repeats some of them at a random node. The response to a repeat must contain the
        original purchase."""
        client = Client()
        order = 0
        while not self._stopped.is_set():
            order += 1
            account = random.choice(self.accounts)
            name, amount = f"order-{number}-{order}", random.randint(1, 1000)
            bought = self._buy_once(client, "purchases", account, name, amount)
            if bought is not None and bought.status == 201:
                purchase_id = str(bought.json()["id"])
                self.record.purchase(purchase_id, Purchase(account.name, amount))
                if random.random() < 0.25:
                    again = self._buy_once(client, "repeated purchases", account, name, amount)
                    if again is not None and (not again.is_replay or again.json().get("id") != purchase_id):
                        self.record.failure(f"{name} was not replayed: {again.body.decode()}")
            time.sleep(random.random() * 0.01)

    def _buy_once(self, client: Client, kind: str, account: Account, order: str, amount: int) -> Answer | None:
        headers = order_headers(account.key, order)
        body = {"amount": in_decimals(amount), "reference": order}
        with self.rotation.one() as node:
            answer = self.send(client, kind, node, "POST", "/v1/purchases", headers, body)
            if answer is not None and answer.status != 201:
                self.record.failure(f"purchase at node {node}: {answer.status} {answer.body.decode()}")
        return answer

    def _ask(self, number: int) -> None:
        """Sends requests with live keys, which every node must accept at any time."""
        client = Client()
        while not self._stopped.is_set():
            account = self.accounts[number % len(self.accounts)]
            with self.rotation.one() as node:
                answer = self._authorize(client, "verifications of live keys", node, account.key)
                if answer is not None and answer.status != 200:
                    self.record.failure(f"a live key at node {node}: {answer.status} {answer.body.decode()}")
            time.sleep(0.002)

    def _authorize(self, client: Client, kind: str, node: Node, key: str) -> Answer | None:
        return self.send(client, kind, node, "GET", AUTHORIZE, {"X-API-Key": key})

    def _revoke(self, number: int) -> None:
        """Creates a key that every node caches, revokes it at one node, and sends requests with it to every node."""
        client = Client()
        while not self._stopped.is_set():
            with self.rotation.all() as nodes:
                self._revoke_once(client, f"/v1/accounts/revoker-{number}/keys", nodes)
            time.sleep(random.random() * 0.02)

    def _revoke_once(self, client: Client, path: str, nodes: list[Node]) -> None:
        at, others = nodes[0], nodes[1:]
        created = self.send(client, "created keys", random.choice(nodes), "POST", path, self.admin, {"name": "a key"})
        if created is None or created.status != 201:
            self.record.failure(f"a key was not created: {created}")
            return
        key = created.json()
        for node in nodes:
            answer = self._authorize(client, "verifications of new keys", node, key["key"])
            if answer is not None and answer.status != 200:
                self.record.failure(f"a new key at node {node}: {answer.status}")
        began = time.monotonic()
        revoked = self.send(client, "revocations", at, "POST", f"{path}/{key['id']}/revoke", self.admin, {})
        seconds = time.monotonic() - began
        if revoked is None or revoked.status != 200:
            self.record.failure(f"a key was not revoked at node {at}: {revoked}")
            return
        earlier = self.record.revoked_keys[-50:]
        keys = [key["key"], *random.sample(earlier, min(ASKED_AGAIN, len(earlier)))]
        for node in [*others, at]:
            for dead in keys:
                answer = self._authorize(client, "verifications of revoked keys", node, dead)
                if answer is not None:
                    self.record.asked_after_revoke(answer.status, f"revoked at node {at}, accepted at node {node}")
        self.record.revoke(key["key"], Revoke(direction(at, others), seconds))


def direction(at: Node, others: list[Node]) -> str:
    """Returns the direction of a revocation, such as "old → new". If `others` contains nodes of both
    versions, the direction names the version that differs from the version of `at`."""
    own = at.version.name
    different = [node.version.name for node in others if node.version.name != own]
    return f"{own} → {different[0] if different else own}"
