"""A client that creates and revokes admin keys with `tollgate admin-key`, and sends requests with them to both
nodes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable

from client import Answer, Client
from nodes import Nodes
from record import Record
from workplace import program_environment

COMMAND_SECONDS = 60
PAUSE_SECONDS = 0.5
RETRY_SECONDS = 0.2
LIVE_KEYS = 4
# The pause before each request with a revoked key, in seconds.
AFTERWARDS = (0.0, 0.0, 0.3, 1.0)


class AdminKeys:
    def __init__(
        self, nodes: Nodes, record: Record, ask: Callable[[Client, str], Awaitable[Answer]]
    ) -> None:
        self._nodes = nodes
        self._record = record
        self._ask = ask

    async def run(self, stopping: Callable[[], bool]) -> None:
        connections = [Client(name, port) for name, port in self._nodes.ports.items()]
        live: deque[tuple[str, str]] = deque()
        while not stopping():
            # The client revokes before it creates. So the first key that it revokes after a failover is a key that
            # the old primary still shows as live.
            if len(live) > LIVE_KEYS:
                await self._revoke(connections, *live[0])
                live.popleft()
            made = await self._command("create", "cluster", "--permissions", "accounts", "--json")
            if made is None:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            key = json.loads(made)
            live.append((key["id"], key["admin_key"]))
            for connection in connections:
                answer = await self._ask(connection, key["admin_key"])
                if answer.status == 401:
                    self._record.refused_new.append(answer)
                elif answer.status != 200 and not answer.failed():
                    self._record.wrong_answer(answer, f"200 for the new admin key {key['id']}")
            if len(live) > LIVE_KEYS:
                await asyncio.sleep(PAUSE_SECONDS)

    async def _revoke(self, connections: list[Client], key_id: str, text: str) -> None:
        while await self._command("revoke", "cluster", key_id) is None:
            await asyncio.sleep(RETRY_SECONDS)
        returned = time.monotonic()
        self._record.revoked_admin_keys.append(key_id)
        self._record.count("admin keys")
        for pause in AFTERWARDS:
            await asyncio.sleep(pause)
            for connection in connections:
                answer = await self._ask(connection, text)
                if answer.status == 200:
                    self._record.late_pass(answer, key_id, returned)

    async def _command(self, *arguments: str) -> str | None:
        """Runs `tollgate admin-key …`. Returns its output, or None if the command failed, for example because
        there was no primary."""
        process = await asyncio.create_subprocess_exec(
            *self._nodes.command_line("admin-key", *arguments),
            env=program_environment(self._nodes.command_environment()),
            cwd=self._nodes.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
        except asyncio.TimeoutError:
            process.kill()
            await process.wait()
            return None
        return output.decode() if process.returncode == os.EX_OK else None
