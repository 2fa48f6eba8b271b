"""Records the responses that the clients received."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Purchase:
    account: str
    # In minor units.
    amount: int


@dataclass(frozen=True)
class Revoke:
    # The version of the node that revoked the key, and the version of the nodes whose
    # acknowledgements it waited for, such as "old → new".
    direction: str
    seconds: float


class Record:
    def __init__(self) -> None:
        self._lock = Lock()
        self.requests: Counter[str] = Counter()
        # The purchases by their id.
        self.purchases: dict[str, Purchase] = {}
        self.revokes: list[Revoke] = []
        self.revoked_keys: list[str] = []
        self.asked_after_revokes = 0
        self.failures: list[str] = []
        self.late_passes: list[str] = []

    def request(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] += 1

    def failure(self, text: str) -> None:
        with self._lock:
            self.failures.append(text)

    def purchase(self, purchase_id: str, purchase: Purchase) -> None:
        with self._lock:
            if purchase_id in self.purchases:
                self.failures.append(f"two purchases have the id {purchase_id}")
            self.purchases[purchase_id] = purchase

    def revoke(self, key: str, revoke: Revoke) -> None:
        with self._lock:
            self.revoked_keys.append(key)
            self.revokes.append(revoke)

    def asked_after_revoke(self, status: int, where: str) -> None:
        """Records a request with a revoked key that began after the revocation had returned."""
        with self._lock:
            self.asked_after_revokes += 1
            if status == 200:
                self.late_passes.append(where)
            elif status != 401:
                self.failures.append(f"{where}: status {status} instead of 401")

    def progress(self) -> tuple[int, int]:
        """Returns the number of revocations and the number of purchases so far."""
        with self._lock:
            return len(self.revokes), len(self.purchases)
