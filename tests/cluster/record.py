"""Records the responses that the clients received, for the judge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from client import Answer


@dataclass
class Purchase:
    """A purchase with its Idempotency-Key, and the id from its first 201 response."""

    account: str
    idempotency_key: str
    amount: int
    id: str | None = None


@dataclass
class RevokedKey:
    account: str
    id: str
    text: str
    # The time at which the revocation returned 200.
    returned: float


@dataclass
class Phase:
    """A phase of the test. `fault` is the time of the fault. `open` contains, for each node, the time at which
    its path opened."""

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
    # 5xx responses, and requests without a response.
    failures: list[Answer] = field(default_factory=list)
    late_passes: list[str] = field(default_factory=list)
    # Responses that are wrong in any state of the database, such as a refusal of a live key.
    wrong: list[str] = field(default_factory=list)
    # Refusals of new keys.
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
        self.wrong.append(f"expected {wanted}: {self.describe(answer)}")

    def late_pass(self, answer: Answer, key_id: str, returned: float) -> None:
        late = answer.begun - returned
        self.late_passes.append(
            f"{key_id} was accepted {late:.3f} s after its revocation returned: {self.describe(answer)}"
        )

    def describe(self, answer: Answer) -> str:
        """Describes a response in one line, with its time in the phase."""
        phase = next((phase for phase in reversed(self.phases) if phase.begun <= answer.begun), None)
        place = f"{phase.name} + {answer.begun - phase.begun:.2f} s" if phase else "before the phases"
        body = answer.body.decode(errors="replace")[:400]
        took = answer.ended - answer.begun
        said = f"{answer.status or 'no response'} {body}"
        return f"{place}, node {answer.node}, {answer.kind}, took {took:.2f} s, {answer.request_id or '-'}: {said}"
