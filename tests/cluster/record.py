"""Records the answers that the clients received, for the judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from client import Answer


@dataclass
class Purchase:
    """A purchase under one Idempotency-Key, and the id that the first 201 named."""

    account: str
    idempotency_key: str
    amount: int
    id: str | None = None


@dataclass
class RevokedKey:
    account: str
    id: str
    text: str
    # The time at which the revoke returned 200.
    returned: float


@dataclass
class Phase:
    """A phase of the test. Its fault begins at `fault`; each node's path to the database is open from `open` on."""

    name: str
    begun: float
    fault: float = 0.0
    open: dict[str, float] = field(default_factory=dict)
    ended: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Record:
    purchases: list[Purchase] = field(default_factory=list)
    revoked: list[RevokedKey] = field(default_factory=list)
    revoked_admin_keys: list[str] = field(default_factory=list)
    # 5xx answers, and requests without an answer.
    failures: list[Answer] = field(default_factory=list)
    late_passes: list[str] = field(default_factory=list)
    # Answers that are wrong whatever the database does, such as a refusal of a live key.
    wrong: list[str] = field(default_factory=list)
    # Refusals of keys that were just created.
    refused_new: list[Answer] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def count(self, what: str) -> None:
        if self.phases:
            self.phases[-1].counts[what] += 1

    def answered(self, answer: Answer) -> None:
        self.count("requests")
        if answer.failed():
            self.failures.append(answer)

    def wrong_answer(self, answer: Answer, wanted: str) -> None:
        self.wrong.append(f"wanted {wanted}: {self.describe(answer)}")

    def late_pass(self, answer: Answer, key_id: str, returned: float) -> None:
        late = answer.begun - returned
        self.late_passes.append(f"{key_id} passed {late:.3f} s after its revoke returned: {self.describe(answer)}")

    def describe(self, answer: Answer) -> str:
        """One line about an answer, with its time in the phase."""
        phase = next((phase for phase in reversed(self.phases) if phase.begun <= answer.begun), None)
        place = f"{phase.name} + {answer.begun - phase.begun:.2f} s" if phase else "before the phases"
        body = answer.body.decode(errors="replace")[:400]
        took = answer.ended - answer.begun
        said = f"{answer.status or 'no answer'} {body}"
        return f"{place}, node {answer.node}, {answer.kind}, took {took:.2f} s, {answer.request_id or '-'}: {said}"
