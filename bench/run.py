#!/usr/bin/env python3
"""Measures pairs one after another, and prints the results or writes them to bench/results.md.

    python3 bench/run.py [--check] [NAME]...

bench/run.sh builds and installs all programs, and calls this program. Without a name, it measures all pairs
and writes bench/results.md. With names, it measures only these pairs, and prints the results. `--check`
checks the names and the settings, and measures nothing.

bench/README.md describes BENCH_ROUNDS, BENCH_SECONDS, BENCH_LARGE, BENCH_BASE and BENCH_RESULTS. The exit
status is 1 if a pair is broken. Otherwise it is 0, even if a target was not met.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

# Keeps __pycache__ out of the repository.
sys.dont_write_bytecode = True
import builds  # noqa: E402
import machine  # noqa: E402
from database import Postgres  # noqa: E402
from measure import BASE_TARGET, AgainstBase, Outcome, Row, Settings  # noqa: E402
from pairs import PAIRS, Bench  # noqa: E402
from processes import ROOT, Broken, Cores, Workplace  # noqa: E402

RESULTS = ROOT / "bench" / "results.md"


def main():
    parser = argparse.ArgumentParser(description="Compares Tollgate with other programs and with itself.")
    parser.add_argument("--check", action="store_true", help="only check the names and the settings")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(PAIRS)}")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in PAIRS:
            parser.error(f"there is no pair {name}. The pairs are {', '.join(PAIRS)}")
    try:
        settings = read_settings()
    except ValueError as error:
        parser.error(str(error))
    if arguments.check:
        return
    end_on_signals()
    try:
        sys.exit(measure(arguments.names, settings))
    except Broken as broken:
        sys.exit(f"bench: {broken}")


def read_settings():
    def whole(name, default):
        text = os.environ.get(name, str(default))
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {text!r}")
        return int(text)

    large = os.environ.get("BENCH_LARGE", "0")
    if large not in ("0", "1"):
        raise ValueError(f"BENCH_LARGE must be 0 or 1, not {large!r}")
    return Settings(whole("BENCH_ROUNDS", 12), whole("BENCH_SECONDS", 2), large == "1")


def end_on_signals():
    """Makes signals raise an exception, so that `with` blocks clean up."""

    def leave(number, _frame):
        # A second signal must not interrupt the cleanup.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def measure(names, settings):
    """Measures the pairs, prints and writes the results, and returns the exit status."""
    began = time.monotonic()
    stolen = machine.StolenTime()
    cores = Cores()
    current, base = builds.current(), builds.base()
    with ExitStack() as stack:
        workplace = stack.enter_context(Workplace())
        postgres = stack.enter_context(Postgres.start(workplace))
        bench = Bench(workplace, postgres, cores, settings, current, base)
        facts = list(machine.describe(workplace, postgres, cores, current, base))
        outcome, broken = measure_pairs(bench, names or PAIRS)
    facts.append(("stolen by other guests", f"{stolen.share():.1%} of the cores' time during the run"))
    facts.append(("duration", f"{(time.monotonic() - began) / 60:.0f} minutes"))
    print(f"\n{results_table(outcome.rows, base)}")
    if base is not None:
        print(f"\nAgainst {base.short}:\n\n{base_table(outcome.against_base)}")
    path = os.environ.get("BENCH_RESULTS") or (None if names else RESULTS)
    if path:
        Path(path).write_text(document(outcome, facts, settings, cores, base))
        print(f"\nwritten: {path}")
    for pair, reason in broken.items():
        print(f"\nbench: {pair} is broken: {reason}", file=sys.stderr)
    for one in outcome.against_base:
        if one.broken:
            print(f"\nbench: {one.pair}: the base commit could not be measured: {one.reason}", file=sys.stderr)
    return 1 if broken or any(one.broken for one in outcome.against_base) else 0


def measure_pairs(bench, names):
    """Measures the pairs. Returns the results, and the reason for each missing result."""
    outcome, broken = Outcome(), {}
    for name in names:
        print(f"\n{name}", flush=True)
        try:
            of_pair = PAIRS[name](bench, name)
        except Broken as error:
            # The measurement continues with the other pairs.
            broken[name] = error
            outcome.rows.append(Row(name, "broken: see the output of the run"))
            if bench.base is not None:
                outcome.against_base.append(AgainstBase(name, reason="the pair is broken"))
            print(f"{name}: broken: {error}", file=sys.stderr, flush=True)
            continue
        outcome.rows += of_pair.rows
        outcome.measured += of_pair.measured
        outcome.notes += of_pair.notes
        outcome.against_base += of_pair.against_base
    return outcome, broken


# Formats the results as Markdown.


def document(outcome, facts, settings, cores, base):
    now = datetime.now(timezone.utc)
    keys = "10,000,000" if settings.large else "1,000,000"
    parts = [
        "# Results of the benchmark",
        f"Written by `bench/run.sh` on {now:%Y-%m-%d} at {now:%H:%M} UTC. [README.md](README.md) describes the pairs and "
        "how to read the numbers. A ratio is our rate divided by the rate of the other side. The table shows the median "
        "of the rounds, with the smallest and the largest ratio in parentheses.",
        results_table(outcome.rows, base),
        "## Settings",
        f"{settings.rounds} rounds of {settings.seconds} s per side, alternately. `million` uses {keys} keys. With one "
        f"worker thread, {cores.describe(1)}. With two, in `gate-2`, {cores.describe(2)}. Postgres, and all of `cold`, "
        "`cold-limits`, `gathered`, `limits`, `revoke`, `lowered` and the pairs about money, are not pinned.",
        "## Machine",
        table(("", ""), facts),
    ]
    if outcome.measured:
        parts += ["## Each side", MEASURED_EXPLAINED, measured_table(outcome.measured)]
    notes = outcome.notes + [
        f"{side.pair}: {side.label} could have been faster, because wrk used all of its core."
        for side in outcome.measured
        if (side.median("client_busy") or 0) > ALL_OF_A_CORE
    ]
    if notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in notes)]
    if base is not None:
        parts += [f"## Against {base.short}", BASE_EXPLAINED, base_table(outcome.against_base)]
    return "\n\n".join(parts) + "\n"


MEASURED_EXPLAINED = (
    "Medians of the rounds, and the smallest and the largest rate. *Server µs*: processor time of the server "
    "per response. *Server* and *client*: how much of one core the server, and each thread of wrk, used."
)
BASE_EXPLAINED = (
    "*New* is *ours* of this tree, and *old* is *ours* of the commit. The table shows the median, the smallest and "
    f"the largest ratio of the rounds. The target is met if the median is at least {BASE_TARGET}, or if the range "
    "includes 1.0. The benchmark does not compare `gate-alone`, `limits`, `attack`, `revoke` and `lowered`."
)
# The threshold is below 100 %, because wrk is idle for a short time at the start and at the end.
ALL_OF_A_CORE = 0.97


def results_table(rows, base):
    met = {True: "yes", False: "**no**", None: ""}
    names = ["pair", "ours", "against", "ratio", "target", "met"]
    cells = [[row.pair, row.ours, row.against, row.ratio, row.target, met[row.met]] for row in rows]
    if base is not None:
        names.append("new ÷ old")
        for row, of_row in zip(rows, cells):
            of_row.append(row.new_by_old)
    return table(names, cells)


def base_table(compared):
    cells = []
    for one in compared:
        if one.ratios:
            middle = f"{median(one.ratios):.3f}"
            spread = f"{min(one.ratios):.3f}–{max(one.ratios):.3f}"
            cells.append((one.pair, middle, spread, "yes" if one.reached else "**no**"))
        else:
            reason = "see the output of the run" if one.broken else one.reason
            cells.append((one.pair, f"not measured: {reason}", "", ""))
    return table(("pair", "new ÷ old", "range", f"≥ {BASE_TARGET}, or 1.0 in the range"), cells)


def measured_table(measured):
    def shown(value, form):
        return "" if value is None else format(value, form)

    cells = []
    for side in measured:
        rates = [sample.answers_per_second for sample in side.samples]
        cells.append(
            (
                side.pair,
                side.label,
                f"{side.median('answers_per_second'):,.0f}",
                f"{min(rates):,.0f}–{max(rates):,.0f}",
                shown(side.median("p99"), ".2f"),
                shown(side.median("server_micros"), ".2f"),
                shown(side.median("server_busy"), ".0%"),
                shown(side.median("client_busy"), ".0%"),
            )
        )
    return table(("pair", "side", "answers/s", "range", "p99 ms", "server µs", "server", "client"), cells)


def table(names, rows):
    """Returns a Markdown table with aligned columns."""
    rows = [names, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
