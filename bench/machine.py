"""Describes the machine that runs the benchmark, without anything that identifies its owner."""

import os
import platform
import re
from pathlib import Path

from processes import ROOT, find_program

# Index of the column `steal` of /proc/stat. The column `user` has index 0.
STOLEN = 7


class StolenTime:
    """Measures the share of CPU time that the hypervisor has given to other guests (steal) since the creation
    of this object."""

    def __init__(self):
        self._before = self._read()

    def share(self):
        passed = [now - then for now, then in zip(self._read(), self._before)]
        return passed[STOLEN] / max(1, sum(passed))

    @staticmethod
    def _read():
        # Skips the word "cpu". The columns after `steal` (guest time) are already included in the first
        # columns.
        columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        return [int(column) for column in columns[: STOLEN + 1]]


def describe(workplace, postgres, cores, current, base):
    """Yields the properties of the machine as pairs of name and value."""
    kibibytes = int(first(r"^MemTotal:\s*(\d+) kB", "/proc/meminfo"))
    yield "processor", first(r"^model name\s*:\s*(.*)$", "/proc/cpuinfo") or "unknown"
    yield "virtual machine", "yes" if re.search(r"\bhypervisor\b", Path("/proc/cpuinfo").read_text()) else "no"
    yield "cores", f"{len(cores.usable)} of {os.cpu_count()}"
    yield "memory", f"{kibibytes / 2**20:.1f} GiB"
    yield "kernel", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "system", first(r'^PRETTY_NAME="?([^"\n]*)', "/etc/os-release") or "unknown"
    file_system = ["df", "--output=fstype", workplace.directory]
    yield "file system", workplace.run("df", file_system).output.split()[-1]
    yield "rustc", workplace.run("rustc", ["rustc", "--version"], directory=ROOT).output.strip()
    yield "Tollgate", version(workplace, current)
    if base is not None:
        yield "compared with", f"{base.commit}, {version(workplace, base)}"
    yield "Postgres", postgres.version()
    # wrk prints its version only with its usage, and exits with status 1.
    yield "wrk", workplace.run("wrk-version", ["sh", "-c", f"{find_program('wrk')} -v || true"]).output.split("[")[0]
    haproxy = workplace.run("haproxy-version", [find_program("haproxy"), "-v"]).output
    yield "HAProxy", haproxy.split(" - ")[0]


def version(workplace, build):
    return workplace.run("version", [build.program("tollgate"), "--version"]).output.strip()


def first(pattern, path):
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found[1] if found else None
