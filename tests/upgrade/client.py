"""An HTTP client on keep-alive connections, and the nodes that a load balancer would use."""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Any

from programs import Node

TIMEOUT_SECONDS = 30


class NoAnswer(Exception):
    """Raised if the node refused or closed the connection, or did not respond in time."""


@dataclass(frozen=True)
class Answer:
    status: int
    is_replay: bool
    body: bytes

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


class Client:
    """A client with one connection to each node. Each thread needs its own client.

    The client never retries, because the test counts each request without a response.
    """

    def __init__(self) -> None:
        self._connections: dict[Node, http.client.HTTPConnection] = {}

    def send(
        self, node: Node, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None
    ) -> Answer:
        if node not in self._connections:
            self._connections[node] = http.client.HTTPConnection("127.0.0.1", node.port, timeout=TIMEOUT_SECONDS)
        connection = self._connections[node]
        if body is None:
            payload = None
        else:
            payload = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        try:
            connection.request(method, path, payload, headers)
            return read_answer(connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(f"{method} {path} at node {node}: {error or type(error).__name__}") from error


def read_answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, response.getheader("Idempotent-Replayed") == "true", response.read())


class Rotation:
    """The nodes that a load balancer sends requests to."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._nodes: list[Node] = []
        self._in_use: Counter[Node] = Counter()

    def add(self, node: Node) -> None:
        with self._changed:
            self._nodes.append(node)

    def remove(self, node: Node) -> None:
        """Takes the node out of rotation, and waits until no client uses it."""
        with self._changed:
            self._nodes.remove(node)
            self._changed.wait_for(lambda: self._in_use[node] == 0)

    @contextmanager
    def one(self) -> Iterator[Node]:
        with self._changed:
            node = random.choice(self._nodes)
            self._in_use[node] += 1
        with self._released([node]):
            yield node

    @contextmanager
    def all(self) -> Iterator[list[Node]]:
        """Returns all nodes in rotation, in a random order. They stay in rotation until the `with`
        block ends."""
        with self._changed:
            nodes = random.sample(self._nodes, len(self._nodes))
            self._in_use.update(nodes)
        with self._released(nodes):
            yield nodes

    @contextmanager
    def _released(self, nodes: list[Node]) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._in_use.subtract(nodes)
                self._changed.notify_all()
