"""Measures the sides of a pair alternately, and converts the results into rows of the table."""

from dataclasses import dataclass, field
from statistics import median
from typing import Callable

from builds import BaseSide

# The comparison with the base commit succeeds if this tree reaches this fraction of the base commit's rate, or
# if the range of the rounds includes 1.0.
BASE_TARGET = 0.95


@dataclass
class Settings:
    rounds: int
    # The duration of one measurement. It is a whole number, because pgbench does not accept fractions.
    seconds: int
    large: bool

    @property
    def warm_up_seconds(self):
        return min(2, self.seconds)


@dataclass
class Sample:
    """One measurement of one side. Unknown values are None."""

    answers_per_second: float
    # CPU time of the server per response, in microseconds.
    server_micros: float | None = None
    # The shares of one core that the server and each thread of the client used. 1.0 is a whole core.
    server_busy: float | None = None
    client_busy: float | None = None
    # The 99th percentile of the latency in milliseconds.
    p99: float | None = None
    # The number of responses.
    answers: int | None = None


@dataclass
class Row:
    """A row of the table. A row without a target is only for information."""

    pair: str
    ours: str
    against: str = ""
    ratio: str = ""
    target: str = ""
    met: bool | None = None
    # Empty if there is no base commit.
    new_by_old: str = ""


@dataclass
class Side:
    """A side of a pair. `measure` takes the seconds and a seed."""

    label: str
    measure: Callable[[int, int], Sample]
    # One sample for each round.
    samples: list[Sample] = field(default_factory=list)
    # Further results. They are complete only after the side has been closed.
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """The samples of one side of a pair, one for each round."""

    pair: str
    label: str
    samples: list[Sample]

    def median(self, name):
        values = [getattr(sample, name) for sample in self.samples]
        return None if None in values else median(values)


@dataclass
class AgainstBase:
    """How a pair compares with the base commit: a ratio for each round, or the reason why there is none."""

    pair: str
    ratios: list[float] = field(default_factory=list)
    reason: str = ""
    # Whether the measurement of the base commit failed.
    broken: bool = False

    @property
    def reached(self):
        return median(self.ratios) >= BASE_TARGET or min(self.ratios) <= 1 <= max(self.ratios)


@dataclass
class Outcome:
    rows: list[Row] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    against_base: list[AgainstBase] = field(default_factory=list)


def compare(bench, pair, target, open_ours, open_against):
    """Measures the sides of a pair alternately, round after round.

    `open_ours` opens our side for a build: first for this tree, then for the base commit. `open_against`
    opens a list of the other sides. The target applies to the ratio of our side to the first of these sides.
    The ratios to the other sides have no target."""
    with (
        open_ours(bench.current) as ours,
        BaseSide(bench.base, pair, open_ours) as base,
        open_against() as others,
    ):
        take_turns(bench.settings, pair, [ours, *others], base)
        # `side` is None if the base commit failed during shutdown, because its samples are then invalid.
        old = base.side
    measured = [Measured(pair, side.label, side.samples) for side in (ours, *others)]
    rows = [ratio_row(pair, measured[0], other) for other in measured[1:]]
    if target is not None:
        rows[0].target = f"≥ {target:.2f}"
        rows[0].met = median(ratios(measured[0], measured[1])) >= target
    notes = [note for side in (ours, *others) for note in side.notes]
    outcome = Outcome(rows + ours.rows, measured, notes)
    if base.reason is not None:
        outcome.against_base.append(AgainstBase(pair, reason=str(base.reason), broken=base.broken))
    elif old is not None:
        found = ratios(ours, old)
        rows[0].new_by_old = with_range(found)
        measured.insert(1, Measured(pair, old.label, old.samples))
        outcome.notes += old.notes
        outcome.against_base.append(AgainstBase(pair, found))
    return outcome


def take_turns(settings, pair, sides, base):
    """Runs the warm-up, which does not count, and then the rounds."""
    for side in turns(sides, base, 1):
        measure_side(side, base, settings.warm_up_seconds, 0)
    for number in range(1, settings.rounds + 1):
        for side in turns(sides, base, number):
            # All sides get the same seed, so they use the same sequence of keys.
            sample = measure_side(side, base, settings.seconds, number)
            if sample is not None:
                side.samples.append(sample)
        order = sides if base.side is None else [sides[0], base.side, *sides[1:]]
        rates = ", ".join(f"{side.label} {side.samples[-1].answers_per_second:,.0f}/s" for side in order)
        if base.side is not None:
            rates += f"; new ÷ old {ratios(sides[0], base.side)[-1]:.3f}"
        print(f"{pair}: round {number} of {settings.rounds}: {rates}", flush=True)


def turns(sides, base, number):
    """Returns the order of the sides in a round. This tree and the base commit swap places after each round, so
    that each of them goes first equally often."""
    if base.side is None:
        return list(sides)
    first, second = (sides[0], base.side) if number % 2 else (base.side, sides[0])
    return [first, second, *sides[1:]]


def measure_side(side, base, seconds, seed):
    """Returns a sample, or None if the side belongs to a base that has failed."""
    if side is base.side:
        return base.measure(seconds, seed)
    return side.measure(seconds, seed)


def ratio_row(pair, ours, against):
    found = ratios(ours, against)
    return Row(pair, with_rate(ours), with_rate(against), with_range(found))


def with_range(found):
    return f"{median(found):.3f} ({min(found):.3f}–{max(found):.3f})"


def ratios(ours, against):
    """Returns one ratio for each round. A round measures both sides shortly after each other, so a slowdown
    of the whole machine cancels out."""
    pairs = zip(ours.samples, against.samples)
    return [mine.answers_per_second / other.answers_per_second for mine, other in pairs]


def with_rate(measured):
    return f"{measured.label}: {measured.median('answers_per_second'):,.0f}/s"


def bounded_row(pair, what, value, bound, unit, digits=0):
    """Creates a row whose value must not exceed a limit."""
    return Row(pair, f"{what}: {value:,.{digits}f} {unit}", target=f"≤ {bound:g} {unit}", met=value <= bound)
