"""A client that creates and revokes admin keys with the commands, and presents them at both nodes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable

from client import Answer, Client
from nodes import Nodes
from record import Record
from workplace import program_environment

COMMAND_SECONDS = 60
PAUSE_SECONDS = 1.5
AFTERWARDS = (0.0, 0.0, 0.5, 2.0)


class AdminKeys:
    def __init__(
        self, nodes: Nodes, record: Record, ask: Callable[[Client, str], Awaitable[Answer]]
    ) -> None:
        self._nodes = nodes
        self._record = record
        self._ask = ask

    async def run(self, stopping: Callable[[], bool]) -> None:
        connections = [Client(name, port) for name, port in self._nodes.ports.items()]
        while not stopping():
            made = await self._command("create", "cluster", "--permissions", "accounts", "--json")
            if made is None:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            key = json.loads(made)
            for connection in connections:
                answer = await self._ask(connection, key["admin_key"])
                if answer.status != 200 and not answer.failed():
                    self._record.wrong_answer(answer, f"200 for the admin key {key['id']}")
            while await self._command("revoke", "cluster", key["id"]) is None:
                await asyncio.sleep(PAUSE_SECONDS)
            returned = time.monotonic()
            self._record.revoked_admin_keys.append(key["id"])
            self._record.count("admin keys")
            for pause in AFTERWARDS:
                await asyncio.sleep(pause)
                for connection in connections:
                    answer = await self._ask(connection, key["admin_key"])
                    if answer.status == 200:
                        self._record.late_pass(answer, key["id"], returned)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _command(self, *arguments: str) -> str | None:
        """The output of `tollgate admin-key …`; None if it failed, as it does while there is no primary."""
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
        except TimeoutError:
            process.kill()
            await process.wait()
            return None
        return output.decode() if process.returncode == os.EX_OK else None
