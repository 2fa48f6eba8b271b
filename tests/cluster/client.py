"""A small HTTP client on keep-alive connections, for asyncio."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

# Longer than a response can take, because a node times out a request after 15 s.
TIMEOUT_SECONDS = 20

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)\r\n", re.IGNORECASE)


@dataclass
class Answer:
    """A response of a node. If there was no response, the status is 0, and the body contains the
    cause."""

    node: str
    kind: str
    begun: float
    ended: float
    status: int
    request_id: str
    body: bytes

    def failed(self) -> bool:
        return self.status == 0 or self.status >= 500


class Client:
    """One connection to a node, which sends one request after another."""

    def __init__(self, node: str, port: int) -> None:
        self._node = node
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, kind: str, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> Answer:
        begun = time.monotonic()
        try:
            head, content = await asyncio.wait_for(self._ask(method, path, headers, body), TIMEOUT_SECONDS)
            found = REQUEST_ID.search(head)
            request_id = found[1].decode() if found else ""
            return Answer(self._node, kind, begun, time.monotonic(), int(head[9:12]), request_id, content)
        except (asyncio.TimeoutError, OSError, EOFError, ValueError) as error:
            self.close()
            why = f"no response: {type(error).__name__} {error}".encode()
            return Answer(self._node, kind, begun, time.monotonic(), 0, "", why)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: str | None) -> tuple[bytes, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {text}" for name, text in headers.items())]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
        writer.write(("\r\n".join(lines) + "\r\n\r\n" + (body or "")).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head)
        content = await reader.readexactly(int(length[1])) if length else b""
        if b"\r\nconnection: close\r\n" in head.lower():
            self.close()
        return head, content
