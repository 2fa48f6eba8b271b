"""The builds of Tollgate that the benchmark measures: this tree, and the base commit if there is one."""

import ast
import os
import sys
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from processes import ROOT, Broken

TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
SHORT = 7


class Missing(Broken):
    """Raised if a build lacks a program, a script or a statement that the measurement needs."""


@dataclass(frozen=True)
class Build:
    """A source tree and the programs that were built from it. Each build creates its own databases, because two
    commits may have different migrations."""

    tree: Path
    programs: dict[str, Path]
    # None for this tree, which may contain uncommitted changes.
    commit: str | None = None

    @property
    def short(self):
        return self.commit[:SHORT]

    def label(self, text):
        """Returns the name of a side of a pair."""
        return text if self.commit is None else f"{text}, {self.short}"

    def process(self, name):
        """Returns the name of a process of this build, and of the files with its output."""
        return name if self.commit is None else f"{name}-{self.short}"

    def database(self, name):
        """Returns the name of a database of this build."""
        return name if self.commit is None else f"base_{name}"

    def program(self, name):
        path = self.programs[name]
        if not path.exists():
            raise Missing(f"{self._name()} has no {name}")
        return path

    def script(self, name):
        """Returns a pgbench script of this build. Each build has its own scripts, because they call functions of
        the database, whose arguments may change.
        """
        path = self.tree / "bench" / name
        if not path.exists():
            raise Missing(f"{self._name()} has no bench/{name}")
        return path

    def statement(self, file, name, ours):
        """Returns the statement with this name that fills the build's tables. For this tree, returns `ours`. A
        base commit uses the statement in its own file, because its tables may have other columns."""
        path = self.tree / "bench" / file
        if self.commit is None or not path.exists():
            return ours
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]:
                return ast.literal_eval(node.value)
        return ours

    def has_pair(self, name):
        """Whether the benchmark of this tree mentions the pair."""
        return any(f'"{name}"' in path.read_text() for path in (self.tree / "bench").glob("*.py"))

    def _name(self):
        return "this tree" if self.commit is None else self.short


def current():
    release = TARGET / "release"
    examples = {name: release / "examples" / name for name in ("bench_server", "bench_lookups")}
    return Build(ROOT, {"tollgate": release / "tollgate", **examples})


def base():
    """Returns the build that BENCH_BASE names, or None."""
    commit = os.environ.get("BENCH_BASE")
    if not commit:
        return None
    directory = TARGET / "bench-base" / commit
    programs = directory / "programs"
    if not programs.is_dir():
        raise Broken(f"{directory} has no programs. bench/run.sh builds the commit that BENCH_BASE names")
    names = ("tollgate", "bench_server", "bench_lookups")
    return Build(directory / "tree", {name: programs / name for name in names}, commit)


class BaseSide:
    """The base commit's side of a pair. `side` is None if there is no base. If the base fails, `reason` contains
    the cause, and the measurement of the other sides continues."""

    def __init__(self, build, pair, open_side):
        self._build = build
        self._pair = pair
        self._open_side = open_side
        self._opened = ExitStack()
        self.side = None
        self.reason = None

    def __enter__(self):
        if self._build is not None:
            try:
                if not self._build.has_pair(self._pair):
                    raise Missing(f"{self._build.short} has no such pair")
                self.side = self._opened.enter_context(self._open_side(self._build))
            except Exception as error:
                self._failed(error)
        return self

    def __exit__(self, *error):
        try:
            self._opened.__exit__(*error)
        except Exception as failure:
            # The caller reports the failure of another side.
            if failure is not error[1]:
                self._failed(failure)

    @property
    def broken(self):
        """Whether the base commit supports this pair, but its measurement failed."""
        return self.reason is not None and not isinstance(self.reason, Missing)

    def measure(self, seconds, seed):
        """Returns a sample, or None if the base has failed."""
        try:
            return self.side.measure(seconds, seed)
        except Exception as error:
            self._failed(error)
            return None

    def _failed(self, error):
        self.side = None
        # Later failures may only be consequences of the first one.
        if self.reason is None:
            self.reason = error
            print(f"{self._pair}: the base commit cannot be measured: {error}", file=sys.stderr, flush=True)
            if not isinstance(error, Broken):
                traceback.print_exception(error)
