"""Checks the time limit of each phase, and formats its summary line and the table of outages."""

from __future__ import annotations

from dataclasses import dataclass

from client import Answer
from record import Phase, Record
from world import BOUND_SECONDS

EXAMPLES = 5


@dataclass
class Outage:
    """The failures of one node in one phase."""

    phase: Phase
    node: str
    failures: list[Answer]
    # The failures after the time limit.
    late: list[Answer]

    def seconds(self) -> float:
        """Returns the time from the first failure to the last failure."""
        if not self.failures:
            return 0.0
        return max(answer.ended for answer in self.failures) - min(answer.begun for answer in self.failures)

    def after_open(self) -> float:
        """Returns the time from the opening of the path to the start of the last failed request. It is
        negative if the request began earlier."""
        return max((answer.begun for answer in self.failures), default=0.0) - self.phase.open[self.node]


def outages(record: Record, phase: Phase) -> list[Outage]:
    found = []
    for node, opened in sorted(phase.open.items()):
        failures = [
            answer
            for answer in record.failures
            if answer.node == node and phase.begun <= answer.begun < phase.ended
        ]
        late = [
            answer
            for answer in failures
            if answer.ended < phase.fault or answer.begun >= opened + BOUND_SECONDS
        ]
        found.append(Outage(phase, node, failures, late))
    return found


def refused_new_keys(record: Record) -> tuple[list[Answer], int]:
    """Returns the refusals of new keys that are faults, and the number of the other refusals. A node whose
    lease was granted by the old primary does not know the keys on the new primary until the lease ends."""
    broken: list[Answer] = []
    for answer in record.refused_new:
        phase = next((phase for phase in reversed(record.phases) if phase.begun <= answer.begun), None)
        opened = None if phase is None else phase.open.get(answer.node)
        if phase is None or opened is None or not phase.fault <= answer.begun < opened + BOUND_SECONDS:
            broken.append(answer)
    return broken, len(record.refused_new) - len(broken)


def line(record: Record, phase: Phase) -> str:
    counts = phase.counts
    parts = [f"{counts[what]:,} {what}" for what in ("requests", "purchases", "revocations", "admin keys")]
    nodes = [f"{outage.node} {outage.seconds():.1f} s" for outage in outages(record, phase)]
    took = phase.ended - phase.begun
    return f"{phase.name}: {took:.1f} s, {', '.join(parts)}; outage of {', '.join(nodes)}"


HEADER = ("phase", "node", "opened after", "outage", "failed", "last began", f"bound {BOUND_SECONDS} s")


def table(all_outages: list[Outage]) -> str:
    """Returns the table of outages. `opened after` is the time from the fault until the node's path to the
    database was open. `last began` is the time from then until the last failed request began."""
    rows = [HEADER]
    for outage in all_outages:
        opened = outage.phase.open[outage.node] - outage.phase.fault
        last = f"{outage.after_open():+.1f} s" if outage.failures else "-"
        held = "held" if not outage.late else f"{len(outage.late)} late"
        rows.append(
            (
                outage.phase.name,
                outage.node,
                f"{opened:.1f} s" if opened > 0 else "-",
                f"{outage.seconds():.1f} s",
                str(len(outage.failures)),
                last,
                held,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows)


def examples(what: str, lines: list[str]) -> list[str]:
    """Returns a heading with the number of lines, followed by the first lines. Returns an empty list if
    there are no lines."""
    if not lines:
        return []
    return [f"{what}: {len(lines)}", *(f"  {text}" for text in lines[:EXAMPLES])]
