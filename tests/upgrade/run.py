"""Upgrades nodes from the previous version to this version, one after another, under load.

    python3 tests/upgrade/run.py --old BINARY --new BINARY

scripts/test-upgrade.sh builds both binaries and runs this program. It follows the steps of docs/src/how-to/upgrade.md.
It needs only Python's standard library. The exit status is 1 if a request failed, a node accepted a
revoked key, or a purchase was lost or duplicated. """

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from client import Rotation, read_answer
from judge import judge_ledger, judge_revokes, print_report
from load import AUTHORIZE, TENANT, Load, in_decimals, order_headers
from programs import Broken, Node, Postgres, Version
from record import Purchase, Record

LEASE_MILLIS = 2000

# How many revocations and purchases the test waits for in each step.
REVOKES = 60
PURCHASES = 300

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", flush=True)


class Upgrade:
    def __init__(self, stack: ExitStack, old: Version, new: Version, admin_key: str) -> None:
        self._stack = stack
        self.old = old
        self.new = new
        self.record = Record()
        self.rotation = Rotation()
        self.load = Load(self.rotation, self.record, admin_key)
        self._stops = 0

    def start(self, name: str, version: Version) -> Node:
        """Starts a node, and puts it into rotation once it is ready."""
        began = time.monotonic()
        node = Node(name, version)
        self._stack.callback(node.kill)
        node.wait_until_ready()
        self.rotation.add(node)
        say(f"node {node} serves requests {time.monotonic() - began:.1f} s after its start")
        return node

    def stop(self, node: Node) -> None:
        """Takes a node out of rotation, then stops it while one purchase is in flight."""
        self.rotation.remove(node)
        self._stops += 1
        account, order, amount = self.load.accounts[0], f"in-flight-{self._stops}", 1
        self.record.request("purchases in flight during a stop")
        body = json.dumps({"amount": in_decimals(amount), "reference": order}).encode()
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
        headers = {**order_headers(account.key, order), "Content-Type": "application/json"}
        try:
            connection.request(
                "POST", "/v1/purchases", headers={**headers, "Content-Length": str(len(body)), "Expect": "100-continue"}
            )
            # The node asks for the body, so the request is in flight.
            asked = b""
            while len(asked) < len(CONTINUE) and (part := connection.sock.recv(len(CONTINUE) - len(asked))):
                asked += part
            node.terminate()
            # The stop begins before the body arrives.
            time.sleep(0.2)
            connection.send(body)
            answer = read_answer(connection)
        except (OSError, http.client.HTTPException) as error:
            self.record.failure(f"a purchase in flight while node {node} stopped: {error!r}")
        else:
            if answer.status == 201:
                self.record.purchase(str(answer.json()["id"]), Purchase(account.name, amount))
            else:
                self.record.failure(f"a purchase in flight while node {node} stopped: {answer}")
        finally:
            connection.close()
        node.wait_until_ended()
        say(f"node {node} left the rotation, finished its request, and stopped")

    def go_on(self) -> None:
        self.load.go_on(REVOKES, PURCHASES)

    def roll(self) -> list[Node]:
        """Runs the upgrade, and returns the nodes that are running afterwards."""
        first, second = self.start("1", self.old), self.start("2", self.old)
        self.load.start()
        self.go_on()
        say("two nodes of the previous version have served the load")
        third = self.start("3", self.new)
        self.go_on()
        say("a node of the new version has migrated the database, and has served requests alongside the old nodes")
        self.stop(first)
        self.go_on()
        self.stop(second)
        second = self.start("4", self.old)
        self.go_on()
        say("a node of the previous version has restarted on the new schema, and has served the load")
        for command in (["tenant", "list"], ["admin-key", "list", TENANT], ["ledger", "verify"]):
            self.old.run(*command)
        say("commands of the previous version work on the new schema")
        fourth = self.start("5", self.new)
        self.go_on()
        self.stop(second)
        self.go_on()
        say("two nodes of the new version have served the load")
        return [third, fourth]

    def judge(self, nodes: list[Node]) -> bool:
        self.load.stop()
        judge_revokes(self.record, nodes, AUTHORIZE)
        lost, doubled = judge_ledger(self.load, nodes[0])
        for version in (self.old, self.new):
            version.run("ledger", "verify")
        say("`ledger verify` of both versions finds no fault")
        print_report(self.record, lost, doubled, LEASE_MILLIS)
        return not (self.record.failures or self.record.late_passes or lost or doubled)


def run(old_binary: Path, new_binary: Path) -> bool:
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres())
        old = Version("old", old_binary, postgres, LEASE_MILLIS)
        new = Version("new", new_binary, postgres, LEASE_MILLIS)
        old.run("migrate")
        upgrade = Upgrade(stack, old, new, old.create_tenant(TENANT))
        say("the previous version has migrated the database")
        return upgrade.judge(upgrade.roll())


def leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description="Upgrades running nodes, one after another, under load.")
    parser.add_argument("--old", type=Path, required=True, help="the binary of the previous version")
    parser.add_argument("--new", type=Path, required=True, help="the binary of this version")
    arguments = parser.parse_args()
    # With these handlers, a signal raises an exception, so that `with` blocks stop all programs.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
    try:
        passed = run(arguments.old.absolute(), arguments.new.absolute())
    except Broken as error:
        sys.exit(f"upgrade test: {error}")
    if not passed:
        sys.exit("\nupgrade test: FAILED")
    print("\nupgrade test: passed")


if __name__ == "__main__":
    main()
