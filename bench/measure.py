"""What is measured: sides that take turns, and the lines of the table that come of it."""

from dataclasses import dataclass, field
from statistics import median
from typing import Callable


@dataclass
class Settings:
    rounds: int
    # Of one measurement; whole, because pgbench takes no fraction.
    seconds: int
    large: bool

    @property
    def warm_up_seconds(self):
        return min(2, self.seconds)


@dataclass
class Sample:
    """One measurement of one side. What is not known of it is None."""

    answers_per_second: float
    # Microseconds that the server's process computed for one answer.
    server_micros: float | None = None
    # How much of one core the server used, and each thread of who asks it; 1.0 is all of it.
    server_busy: float | None = None
    client_busy: float | None = None
    # Milliseconds that one answer in a hundred took longer than.
    p99: float | None = None
    # How many answers there were.
    answers: int | None = None


@dataclass
class Side:
    """What is measured, for so many seconds and with a seed."""

    label: str
    measure: Callable[[int, int], Sample]


@dataclass
class Row:
    """A line of the table. Without a target it is for information."""

    pair: str
    ours: str
    against: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None


@dataclass
class Measured:
    """The samples of one side of a pair, a sample a round."""

    pair: str
    label: str
    samples: list[Sample]

    def median(self, name):
        values = [getattr(sample, name) for sample in self.samples]
        return None if None in values else median(values)


@dataclass
class Outcome:
    rows: list[Row] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(settings, pair, target, ours, against, *others):
    """Measures the sides in turn, round after round. The target, if there is one, is for the first
    two; how ours compares with the others is for information."""
    sides = [ours, against, *others]
    for side in sides:
        side.measure(settings.warm_up_seconds, 0)
    measured = [Measured(pair, side.label, []) for side in sides]
    for number in range(1, settings.rounds + 1):
        for side, of_side in zip(sides, measured):
            # The same seed for all: they are asked for the same keys in the same order.
            of_side.samples.append(side.measure(settings.seconds, number))
        rates = ", ".join(f"{m.label} {m.samples[-1].answers_per_second:,.0f}/s" for m in measured)
        print(f"{pair}: round {number} of {settings.rounds}: {rates}", flush=True)
    rows = [ratio_row(pair, measured[0], other) for other in measured[1:]]
    if target is not None:
        rows[0].target = f"≥ {target:.2f}"
        rows[0].met = median(ratios(measured[0], measured[1])) >= target
    return Outcome(rows, measured)


def ratio_row(pair, ours, against):
    found = ratios(ours, against)
    spread = f"{median(found):.3f} ({min(found):.3f}–{max(found):.3f})"
    return Row(pair, with_rate(ours), with_rate(against), spread)


def ratios(ours, against):
    """A ratio a round, of two measurements next to each other: what slows both down drops out."""
    pairs = zip(ours.samples, against.samples)
    return [mine.answers_per_second / other.answers_per_second for mine, other in pairs]


def with_rate(measured):
    return f"{measured.label}: {measured.median('answers_per_second'):,.0f}/s"


def bounded_row(pair, what, value, bound, unit, digits=0):
    """A line whose value must not be above a bound."""
    return Row(pair, f"{what}: {value:,.{digits}f} {unit}", target=f"≤ {bound:g} {unit}", met=value <= bound)
