"""Checks that an OpenAPI document is valid, and that generators produce well-typed clients from it.

scripts/check-openapi.sh installs the tools and calls this program. It lints the document, generates a TypeScript and a
Python client, and type-checks a program that uses each client. A warning of a tool fails the check. The generated code
is in target/openapi-check/.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "openapi-check"
TOOLS = WORK / "node_modules" / ".bin"

# The time limit for one tool. Each tool needs only a few seconds.
TOOL_SECONDS = 120

# These variables disable telemetry and checks for newer versions.
QUIET = {
    "REDOCLY_TELEMETRY": "off",
    "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    "DO_NOT_TRACK": "1",
    "NO_UPDATE_NOTIFIER": "1",
    "NO_COLOR": "1",
}

# Members and parameters with these names always have a closed set of values.
CLOSED_NAMES = {
    *("action", "actor", "code", "environment", "granularity", "hold_status", "kind", "media_type", "order", "period"),
    *("required_permission", "status", "void_reason", "wallet_sign_in"),
}

# Matches a closed set in a pattern, such as "^(live|test)$".
ALTERNATIVES = re.compile(r"^\^\(?(?:\?:)?[\w./-]+(?:\|[\w./-]+)+\)?\$$")

# Matches a closed set in a description, such as "`live`, `revoked` or `expired`."
ENUMERATION = re.compile(r"^`[\w./]+`(?: \([^)]*\))?,? (?:`[\w./]+`,? )*or `[\w./]+`")

Json = dict[str, Any]


def fail(message: str) -> NoReturn:
    sys.exit(f"check-openapi: {message}")


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a tool. If it exceeds the time limit, kills it and its child processes."""
    name = Path(command[0]).name
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | QUIET | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        fail(f"{name} did not finish within {TOOL_SECONDS} s")
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def expect_success(result: subprocess.CompletedProcess[str], what: str) -> None:
    if result.returncode != 0:
        fail(f"{what}\n{result.stdout}{result.stderr}")


def lint(document: Path) -> None:
    config = HERE / "redocly.yaml"
    result = run(TOOLS / "redocly", "lint", document, "--config", config, "--format=json", "--max-problems=1000")
    try:
        report = json.loads(result.stdout)
    except json.JSONDecodeError:
        fail(f"redocly failed\n{result.stdout}{result.stderr}")
    problems = [
        f"{problem['severity']} {problem['ruleId']} at {problem['location'][0].get('pointer')}: {problem['message']}"
        for problem in report["problems"]
    ]
    if problems or result.returncode != 0:
        fail("\n  ".join([f"redocly found {len(problems)} problems", *problems]))


def deref(document: Json, node: Json) -> Json:
    while "$ref" in node:
        target: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def closed_set(document: Json, schema: Json) -> list[str] | None:
    """Returns the values of a schema that is a closed set of strings, without `null`. Returns None if the set is open."""
    schema = deref(document, schema)
    if "const" in schema:
        return [schema["const"]] if isinstance(schema["const"], str) else None
    if "enum" in schema:
        return [value for value in schema["enum"] if isinstance(value, str)] or None
    for one in schema.get("oneOf", []) + schema.get("anyOf", []):
        if deref(document, one).get("type") != "null":
            return closed_set(document, one)
    return None


def members(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Yields every member of every named schema: the name of the schema, and the name and the schema of the member."""
    for name, schema in document["components"]["schemas"].items():
        for part in [schema, *(part for part in schema.get("allOf", []) if "$ref" not in part)]:
            for member, value in part.get("properties", {}).items():
                yield name, member, value


def parameters(document: Json) -> Iterator[tuple[str, Json]]:
    """Yields every parameter, with the id of its operation."""
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                yield operation["operationId"], deref(document, parameter)


def find_hidden_sets(document: Json) -> None:
    """Finds closed sets that a generator cannot see: plain strings whose pattern or description lists the values."""
    places = [(f"{name}.{member}", member, value, value) for name, member, value in members(document)]
    places += [
        (f"{operation}?{parameter['name']}", parameter["name"], parameter["schema"], parameter)
        for operation, parameter in parameters(document)
    ]
    found = []
    for place, name, schema, described in places:
        resolved = deref(document, schema)
        if "string" not in resolved.get("type", "") or closed_set(document, schema):
            continue
        if name in CLOSED_NAMES:
            found.append(f"{place} is a plain string, but members of this name have closed sets of values")
        elif ALTERNATIVES.match(resolved.get("pattern", "")):
            found.append(f"{place} lists its values in a pattern: {resolved['pattern']}")
        elif ENUMERATION.match(described.get("description", "")):
            found.append(f"{place} lists its values in a description: {described['description']}")
    if found:
        fail("\n  ".join(["the document has closed sets that are not enums", *found]))


def generate_typescript(document: Path, parsed: Json) -> None:
    place = WORK / "typescript"
    place.mkdir()
    result = run(TOOLS / "openapi-typescript", document, "--output", place / "tollgate.ts")
    expect_success(result, "openapi-typescript failed")
    lines = (result.stdout + result.stderr).splitlines()
    warnings = [line for line in lines if line.strip() and line[0] not in "✨🚀"]
    if warnings:
        fail("\n  ".join(["openapi-typescript printed warnings", *warnings]))
    (place / "closed-sets.ts").write_text(closed_sets_in_typescript(parsed))
    expect_success(run(TOOLS / "tsc", "--project", HERE / "tsconfig.json"), "the TypeScript client does not type-check")


def closed_sets_in_typescript(document: Json) -> str:
    """Returns a program that compiles only if the type of each closed set is exactly the union of its values."""
    lines = [
        'import type { components, operations } from "tollgate";',
        "type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;",
        "type Strings<T> = Extract<T, string>;",
        "function same<A, B>(_: Same<A, B>): void {}",
    ]
    for name, member, schema in members(document):
        if values := closed_set(document, schema):
            lines.append(same_in_typescript(f'components["schemas"]["{name}"]["{member}"]', values))
    for operation, parameter in parameters(document):
        if values := closed_set(document, parameter["schema"]):
            group = f'NonNullable<operations["{operation}"]["parameters"]["{parameter["in"]}"]>'
            lines.append(same_in_typescript(f'{group}["{parameter["name"]}"]', values))
    return "\n".join(lines) + "\n"


def same_in_typescript(place: str, values: list[str]) -> str:
    return f"same<Strings<{place}>, {' | '.join(map(json.dumps, values))}>(true);"


def generate_python(document: Path, parsed: Json) -> None:
    place = WORK / "python"
    place.mkdir()
    python = Path(sys.executable)
    result = run(
        python.with_name("openapi-python-client"),
        *("generate", "--path", document, "--meta", "none", "--fail-on-warning"),
        *("--config", HERE / "openapi-python-client.yaml", "--output-path", place / "tollgate_client"),
    )
    expect_success(result, "openapi-python-client failed or printed warnings")
    # The generated client.py is not strictly typed, so mypy reports errors only for the program.
    result = run(
        *(python, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", WORK / "mypy"),
        HERE / "consumer.py",
        env={"MYPYPATH": str(place)},
    )
    expect_success(result, "the Python client does not type-check")
    result = run(python, HERE / "consumer.py", env={"PYTHONPATH": str(place)})
    expect_success(result, "the program that uses the Python client failed")
    find_strings_in_python(place, parsed)


def find_strings_in_python(place: Path, document: Json) -> None:
    """Finds members and parameters whose type is not an enum with exactly the values of the closed set."""
    from enum import Enum
    from importlib import import_module
    from inspect import unwrap
    from typing import get_args, get_type_hints

    sys.path.insert(0, str(place))
    models = import_module("tollgate_client.models")

    def values_of(hint: Any) -> set[str] | None:
        found: set[str] = set()
        for part in get_args(hint) or (hint,):
            if part is str:
                return None
            if isinstance(part, type) and issubclass(part, Enum):
                found |= {member.value for member in part}
        return found

    wrong = []
    for name, member, schema in members(document):
        values = closed_set(document, schema)
        if values and (model := getattr(models, name, None)):
            hints = get_type_hints(model, None, vars(models))
            # The generator appends `_` to names that Python reserves.
            hint = hints.get(member, hints.get(member + "_"))
            if values_of(hint) != set(values):
                wrong.append(f"{name}.{member} is {hint}")
        elif values:
            wrong.append(f"there is no model {name}")
    modules = {path.stem: path for path in (place / "tollgate_client" / "api").rglob("*.py")}
    for operation, parameter in parameters(document):
        if values := closed_set(document, parameter["schema"]):
            module = modules[re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()]
            function = import_module(".".join(module.relative_to(place).with_suffix("").parts)).sync_detailed
            hints = get_type_hints(unwrap(function))
            hint = hints.get(parameter["name"], hints.get(parameter["name"] + "_"))
            if values_of(hint) != set(values):
                wrong.append(f"{operation}?{parameter['name']} is {hint}")
    if wrong:
        fail("\n  ".join(["the Python client has closed sets that are not enums", *wrong]))


def main() -> None:
    document = Path(sys.argv[1]).resolve()
    parsed = json.loads(document.read_text())
    for place in ("typescript", "python"):
        shutil.rmtree(WORK / place, ignore_errors=True)
    steps = [
        ("lint with redocly", lambda: lint(document)),
        ("look for closed sets that are not enums", lambda: find_hidden_sets(parsed)),
        ("generate and type-check a TypeScript client", lambda: generate_typescript(document, parsed)),
        ("generate, type-check and run a Python client", lambda: generate_python(document, parsed)),
    ]
    for name, step in steps:
        print(f"check-openapi: {name}", flush=True)
        step()


if __name__ == "__main__":
    main()
