#!/usr/bin/env python3
"""Runs the walkthroughs of the documentation, and compares their output with the output that the pages show.

    python3 scripts/walk.py [FILE]...

Without a file, it runs the walkthroughs of README.md, the tutorial, and each how-to guide that contains one.
Each page gets its own demo server.

Format. A page may have any number of sections between the lines `<!-- walk:start -->` and
`<!-- walk:end -->`. The script runs the fenced blocks marked `sh` in these sections in order, in one bash
session that begins in an empty directory. So a variable that one block sets exists in the next block. A block
must end with status 0. If a fenced block marked `http`, `json` or `text` follows before the next `sh`
block, it is the expected stdout of the `sh` block:

  http  One or more responses as `curl -i` prints them. The status codes must be equal. Every shown
        header must be in the response with the same value; a date, a length and a request id may have
        any value. The response may have other headers, and a line `…` may say so. A body is compared
        like `json`, or like `text` if it is not JSON. If no body is shown, any body matches.
  json  JSON values, one after another, in any layout. A single number, such as the output of
        `-w '%{http_code}'`, is compared like any other value.
  text  Lines, compared without trailing spaces. A line `…` matches any number of lines.

Fenced blocks in other languages are for the reader only.

Comparison. Objects must have the same member names and arrays the same length, at every depth.
Numbers, booleans, null and strings must be equal, except that in a string

  - an id (key_01h4…), a key (ta_…), a key's hint, a UUID, a hash or a time matches any other of its kind;
  - `…` matches anything.

In JSON, the string "…" matches any value; `"…": "…"` as the last member of an object matches any
further members, and "…" as the last element of an array matches any further elements. `next_cursor`
and `request_id` may be any string.

Replacements. 127.0.0.1:8080 and 127.0.0.1:9464 (or localhost) are replaced by the addresses of the demo
server in the commands, and back in the output. The variables that the demo tells its user to export are
exported before the first block. An `export NAME=…` with an ellipsis in its value, which shows the reader
where to paste, is skipped. `tollgate` is on the PATH, and its commands use the database of the demo
server.
"""

import difflib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

# Keeps __pycache__ out of the repository.
sys.dont_write_bytecode = True
from demo_server import ROOT, DemoFailed, DemoServer, binary, exit_on_signals  # noqa: E402

# Pages that must contain a walkthrough.
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "src" / "tutorial" / "first-bot.md"
# Pages in this directory may contain a walkthrough.
GUIDES = ROOT / "docs" / "src" / "how-to"

WALK_START, WALK_END = "<!-- walk:start -->", "<!-- walk:end -->"

BLOCK_SECONDS = 60

EXPECTATIONS = ("http", "json", "text")
# Languages of shell blocks that this script does not run. In a walkthrough they are errors.
MISTAKEN = ("bash", "shell", "console", "zsh", "shell-session")
PLACEHOLDER_EXPORT = re.compile(r"^\s*export [A-Z][A-Z0-9_]*=\S*…")

ANY = "…"
FREE_FIELDS = {"next_cursor", "request_id"}
FREE_HEADERS = {"content-length", "date", "x-request-id"}

START, END = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"
PREFIX = r"((?:[a-z][a-z0-9]*_)+?)"
# A string that matches one of these patterns equals any other string that matches the pattern. Patterns for
# longer strings come first.
KINDS = [
    (re.compile(START + PREFIX + r"[A-Za-z0-9_-]{43}" + END), r"\1<key>"),
    (re.compile(START + PREFIX + r"[A-Za-z0-9_-]{4}…[A-Za-z0-9_-]{4}" + END), r"\1<hint>"),
    (re.compile(START + PREFIX + r"[0-7][0-9a-hjkmnp-tv-z]{25}" + END), r"\1<id>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{32,}\b"), "<hash>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?"), "<time>"),
]
# The abbreviated forms of these strings on a page.
ABBREVIATED = [
    (re.compile(START + PREFIX + r"[A-Za-z0-9_-]{0,12}…[A-Za-z0-9_-]{0,12}"), r"\1…"),
    (re.compile(r"\b\d{4}-[0-9T:.-]*…Z?"), "…"),
]


class Malformed(Exception):
    """Raised if the walkthrough of a page is malformed."""


# Reading a page.


class Step:
    def __init__(self, line, script):
        self.line = line
        self.script = script
        self.kind = None
        self.expected = None


def read_steps(text):
    steps = []
    inside = False
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        mark = line.strip()
        if mark in (WALK_START, WALK_END):
            if inside == (mark == WALK_START):
                raise Malformed(f"line {number}: {mark} is not allowed here")
            inside = not inside
        elif fence := re.match(r"^(\s*)(```+|~~~+)\s*([\w-]*)", line):
            block = read_block(lines, number, len(fence[1]), fence[2])
            if inside:
                add_block(steps, number, fence[3], block)
    if inside:
        raise Malformed(f"{WALK_END} is missing")
    if not any(step.kind for step in steps):
        raise Malformed(f"no block between {WALK_START} and {WALK_END} shows an expected output")
    return steps


def read_block(lines, opened_at, indent, fence):
    block = []
    for _, line in lines:
        if line.strip() == fence:
            return "\n".join(block)
        block.append(line[indent:] if not line[:indent].strip() else line)
    raise Malformed(f"line {opened_at}: the block is never closed")


def add_block(steps, number, language, block):
    if language == "sh":
        steps.append(Step(number, block))
    elif language in MISTAKEN:
        raise Malformed(f"line {number}: the walk does not run a block marked `{language}`. Mark it `sh`")
    elif language in EXPECTATIONS:
        if not steps or steps[-1].kind:
            raise Malformed(f"line {number}: no `sh` block belongs to this `{language}` block")
        steps[-1].kind = language
        steps[-1].expected = block


# Running a block.


class Session:
    """A bash session that runs all blocks of a page."""

    def __init__(self, server):
        self.directory = server.directory / "walk"
        work, programs = self.directory / "work", self.directory / "bin"
        for directory in (self.directory, work, programs):
            directory.mkdir()
        (programs / "tollgate").symlink_to(binary())
        environment = server.command_environment()
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        self.stderr = self.directory / "stderr"
        self.addresses = [
            (re.compile(r"(?:127\.0\.0\.1|localhost):8080\b"), "127.0.0.1:8080", urlsplit(server.url).netloc),
            (re.compile(r"(?:127\.0\.0\.1|localhost):9464\b"), "127.0.0.1:9464", urlsplit(server.metrics_url).netloc),
        ]
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=work,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bash.stdin.close()
        try:
            os.killpg(self.bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.bash.wait()

    def run(self, script):
        """Runs a block. Returns its status, its stdout and its stderr."""
        for pattern, _, real in self.addresses:
            script = pattern.sub(real, script)
        kept = [line for line in script.splitlines() if not PLACEHOLDER_EXPORT.match(line)]
        path = self.directory / "block.sh"
        path.write_text("\n".join(kept) + "\n")
        # bash sources the block, so that its variables stay. The block is in a file, so that it cannot read
        # the rest of the walkthrough.
        marker = f"walk-{uuid.uuid4().hex}"
        self.bash.stdin.write(f". '{path}' </dev/null 2>'{self.stderr}'; echo \"{marker} $?\"\n".encode())
        self.bash.stdin.flush()
        stdout, status = self._read_until(marker)
        for _, shown, real in self.addresses:
            stdout = stdout.replace(real, shown)
        return status, stdout, self.stderr.read_text(errors="replace")

    def _read_until(self, marker):
        ending = re.compile(marker.encode() + rb" (\d+)\n$")
        deadline = time.monotonic() + BLOCK_SECONDS
        output = b""
        while not (end := ending.search(output)):
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([self.bash.stdout], [], [], wait)[0]:
                raise Malformed(f"the block did not end within {BLOCK_SECONDS} s; so far: {output.decode(errors='replace')}")
            chunk = os.read(self.bash.stdout.fileno(), 65536)
            if not chunk:
                raise Malformed(f"the block ended the shell; so far: {output.decode(errors='replace')}")
            output += chunk
        return output[: end.start()].decode(errors="replace"), int(end[1])


# Comparing. Each function returns a list of differences.


def compare(kind, expected, actual):
    if kind == "http":
        return compare_http(expected, actual)
    if kind == "json":
        return compare_json_text(expected, actual)
    return compare_text(expected, actual)


def compare_http(expected, actual):
    wanted, got = parse_responses(expected), parse_responses(actual)
    if wanted is None:
        raise Malformed("an `http` block begins with a status line, as in HTTP/1.1 200 OK")
    if got is None or len(wanted) != len(got):
        return [f"expected {len(wanted)} response(s), got {len(got or [])}"]
    differences = []
    for number, (one, other) in enumerate(zip(wanted, got), 1):
        place = f"response {number}: " if len(wanted) > 1 else ""
        differences += [place + difference for difference in compare_response(one, other)]
    return differences


def compare_response(wanted, got):
    differences = []
    if wanted["status"] != got["status"]:
        differences.append(f"expected status {wanted['status']}, got {got['status']}")
    for name, values in wanted["headers"].items():
        sent = got["headers"].get(name, [])
        if not sent:
            differences.append(f"the response has no header {name}")
        elif name not in FREE_HEADERS:
            for value in values:
                if not any(same_string(value, other) for other in sent):
                    differences.append(f"header {name}: expected {value!r}, got {', '.join(sent)!r}")
    if wanted["body"]:
        differences += compare_body(wanted["body"], got["body"])
    return differences


def compare_body(wanted, got):
    if wanted[0] in "{[":
        return compare_json_text(wanted, got)
    return compare_text(wanted, got)


def parse_responses(text):
    """Returns the responses in the output of `curl -i`, or None. A body need not end with a newline."""
    text = text.replace("\r\n", "\n").strip()
    starts = [found.start() for found in re.finditer(r"HTTP/[0-9.]+ \d{3}\b[^\n]*(?:\n|$)", text)]
    if not starts or starts[0] != 0:
        return None
    return [parse_response(text[start:end]) for start, end in zip(starts, [*starts[1:], len(text)])]


def parse_response(text):
    head, _, rest = text.partition("\n")
    headers = {}
    lines = rest.split("\n")
    while lines and (found := re.match(r"^(?:([A-Za-z0-9-]+):\s*(.*?)|…)\s*$", lines[0])):
        if found[1]:
            headers.setdefault(found[1].lower(), []).append(found[2])
        lines.pop(0)
    return {"status": int(head.split()[1]), "headers": headers, "body": "\n".join(lines).strip()}


def compare_json_text(expected, actual):
    try:
        wanted = parse_values(expected)
    except ValueError as error:
        raise Malformed(f"the block `json` of the page is not valid JSON: {error}") from error
    try:
        got = parse_values(actual)
    except ValueError:
        return ["expected JSON, but the output is not JSON"]
    if len(wanted) != len(got):
        return [f"expected {len(wanted)} JSON value(s), got {len(got)}"]
    differences = []
    for number, (one, other) in enumerate(zip(wanted, got), 1):
        differences += compare_json(one, other, "$" if len(wanted) == 1 else f"value {number}: $")
    return differences


def parse_values(text):
    values = []
    rest = text.strip()
    decoder = json.JSONDecoder()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    return values


def compare_json(wanted, got, path):
    if wanted == ANY:
        return []
    if type(wanted) is not type(got):
        return [f"{path}: expected {shown(wanted)}, got {shown(got)}"]
    if isinstance(wanted, dict):
        return compare_objects(wanted, got, path)
    if isinstance(wanted, list):
        return compare_arrays(wanted, got, path)
    if isinstance(wanted, str):
        same = path.rpartition(".")[2] in FREE_FIELDS or same_string(wanted, got)
    else:
        same = wanted == got
    return [] if same else [f"{path}: expected {shown(wanted)}, got {shown(got)}"]


def compare_objects(wanted, got, path):
    differences = []
    for name, value in wanted.items():
        if name == ANY:
            continue
        if name in got:
            differences += compare_json(value, got[name], f"{path}.{name}")
        else:
            differences.append(f"{path}.{name} is missing")
    if ANY not in wanted:
        differences += [f"{path}.{name} is not on the page" for name in got if name not in wanted]
    return differences


def compare_arrays(wanted, got, path):
    open_ended = wanted[-1:] == [ANY]
    shown_elements = wanted[:-1] if open_ended else wanted
    if len(got) < len(shown_elements) or (len(got) > len(shown_elements) and not open_ended):
        return [f"{path}: expected {len(shown_elements)} element(s), got {len(got)}"]
    differences = []
    for index, (one, other) in enumerate(zip(shown_elements, got)):
        differences += compare_json(one, other, f"{path}[{index}]")
    return differences


def compare_text(expected, actual):
    wanted = [line.rstrip() for line in expected.strip().split("\n")]
    got = [line.rstrip() for line in actual.replace("\r\n", "\n").strip().split("\n")]
    pattern = "".join(".*" if line == ANY else string_pattern(line) + "\n" for line in wanted)
    masked = "".join(mask(line, KINDS) + "\n" for line in got)
    if re.fullmatch(pattern, masked, re.DOTALL):
        return []
    return list(difflib.unified_diff(wanted, got, "shown", "came", lineterm=""))


def same_string(wanted, got):
    return re.fullmatch(string_pattern(wanted), mask(got, KINDS)) is not None


def string_pattern(wanted):
    masked = mask(mask(wanted, KINDS), ABBREVIATED)
    pattern = "[^\n]*".join(re.escape(part) for part in masked.split(ANY))
    # A key's hint on the page, such as `ta_aBcD…-_ab`, also matches the key.
    return pattern.replace(re.escape("<hint>"), "(?:<hint>|<key>)")


def mask(text, kinds):
    for pattern, kind in kinds:
        text = pattern.sub(kind, text)
    return text


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "…"


# Running the walkthroughs.


def pages():
    guides = (path for path in sorted(GUIDES.glob("*.md")) if WALK_START in path.read_text())
    return [README, TUTORIAL, *guides]


def walk(name, steps, server):
    failures = 0
    with Session(server) as session:
        for step in steps:
            place = f"{name}:{step.line}"
            title = step.script.strip().split("\n")[0]
            try:
                status, stdout, stderr = session.run(step.script)
                differences = [f"the block ended with status {status}"] if status else []
                if step.kind:
                    differences += compare(step.kind, step.expected, stdout)
            except Malformed as error:
                raise Malformed(f"{place}: {error}") from error
            print(f"{'FAILED' if differences else 'ok    '} {place}  {title[:90]}", flush=True)
            if differences:
                failures += 1
                report(differences, stdout, stderr)
        compared = sum(bool(step.kind) for step in steps)
        print(f"walk: {name}: {len(steps)} blocks, {compared} compared, {failures} failed", flush=True)
    return failures


def report(differences, stdout, stderr):
    for difference in differences:
        print(f"       {difference}")
    for name, text in (("stdout", stdout), ("stderr", stderr)):
        if text.strip():
            print(f"       --- {name}")
            print("\n".join(f"       | {line.rstrip()}" for line in text.splitlines()))


def steps_of(path):
    try:
        return read_steps(path.read_text())
    except Malformed as error:
        raise Malformed(f"{path}: {error}") from error


def main():
    paths = [Path(argument) for argument in sys.argv[1:]]
    exit_on_signals()
    try:
        walks = [(os.path.relpath(path, ROOT), steps_of(path)) for path in paths or pages()]
        failures = 0
        for name, steps in walks:
            with DemoServer() as server:
                failed = walk(name, steps, server)
                if failed:
                    print(server.log_tail())
                failures += failed
        sys.exit(1 if failures else 0)
    except FileNotFoundError as error:
        sys.exit(f"walk: {error.filename} does not exist")
    except Malformed as error:
        sys.exit(f"walk: {error}")
    except DemoFailed as failure:
        sys.exit(f"walk: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
