#!/usr/bin/env python3
"""Prints random texts of the repository, so that a reader can judge the wording.

    scripts/sample-texts.py SEED [COUNT]

The same seed prints the same texts of the same tree. Six of ten texts are texts for users: documentation,
descriptions of the API, messages and pages. The others are comments and names of tests. The script omits
migrations and generated files.
"""

import argparse
import json
import random
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ("docs/book/", "docs/src/reference/http-api.md", ".sqlx/", "migrations/")
MAX_LENGTH = 600


def tracked_files():
    """Returns the paths of the files that git tracks, relative to the root."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if not path.startswith(GENERATED)]


def line_of(source, offset):
    return source.count("\n", 0, offset) + 1


def paragraphs(source):
    """Yields the paragraphs, list items and table rows of a Markdown file outside of code blocks."""
    text, start, in_block = "", 0, False
    for number, line in enumerate([*source.split("\n"), ""], 1):
        if line.strip().startswith("```"):
            in_block = not in_block
        elif in_block:
            continue
        elif not line.strip() or re.match(r"\s*([-*|#]|\d+\.)\s?", line):
            if text:
                yield start, text
            text, start = line, number
        else:
            text += " " + line


def descriptions(value, path=""):
    """Yields the summaries and descriptions of an OpenAPI document, with the path of each in the document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in items:
        if name in ("summary", "description") and isinstance(member, str):
            yield path, member
        else:
            yield from descriptions(member, f"{path}/{name}")


def comments(source, pattern):
    """Yields the blocks of comment lines. The first group of the pattern is the text of a line."""
    block, start = [], 0
    for number, line in enumerate([*source.split("\n"), ""], 1):
        match = re.match(pattern, line)
        if match:
            start = start if block else number
            block.append(match.group(1))
        elif block:
            yield start, " ".join(block)
            block = []


def page_texts(source):
    """Yields the texts between the tags of a template."""
    without_code = re.sub(r"\{[%#].*?[%#]\}", "\n", source, flags=re.S)
    without_code = re.sub(r"</?(code|strong|a|span|var|em)[^>]*>", "", without_code)
    for match in re.finditer(r">([^<>]+)<", without_code):
        yield line_of(without_code, match.start()), match.group(1)


def messages(source):
    """Yields the string literals of a Rust file that contain sentences. Skips the unit tests."""
    end = source.find("#[cfg(test)]")
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"', source[: end if end >= 0 else None], flags=re.S):
        text = re.sub(r"\\\n\s*", "", match.group(1))
        if len(text.split()) >= 4 and not re.search(r"/\*|\b(SELECT|INSERT|UPDATE|DELETE|WHERE)\b", text):
            yield line_of(source, match.start()), text


def test_names(source):
    for match in re.finditer(r"#\[(?:tokio::)?test[^\n]*\n\s*(?:pub )?(?:async )?fn (\w+)", source):
        yield line_of(source, match.end()), "test: " + match.group(1).replace("_", " ")


def texts_of(path, source):
    """Returns the texts of a file for users, and the texts for maintainers."""
    if path == "docs/openapi.json":
        return list(descriptions(json.loads(source))), []
    if path.endswith(".md") or path == ".env.example":
        return list(paragraphs(source.replace("\n# ", "\n"))), []
    if path.startswith("templates/"):
        return list(page_texts(source)), []
    if path.endswith(".rs"):
        inside = [*comments(source, r"\s*//[/!]?\s?(.*)"), *test_names(source)]
        return (list(messages(source)) if path.startswith("src/") else []), inside
    if path.endswith(".sql"):
        return [], list(comments(source, r"\s*--\s?(.*)"))
    if path.endswith((".sh", ".py", ".toml", ".yaml", ".js", ".css", "Makefile", "Dockerfile")):
        return [], list(comments(source, r"\s*(?:#(?!!)|//|/\*)\s?(.*)"))
    return [], []


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int, nargs="?", default=100)
    arguments = parser.parse_args()
    pools = ([], [])
    for path in tracked_files():
        try:
            source = (ROOT / path).read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        for pool, texts in zip(pools, texts_of(path, source)):
            short = ((place, " ".join(text.split())) for place, text in texts)
            pool.extend((path, place, text) for place, text in short if re.search("[a-z]{3}.{9}", text))
    chosen = random.Random(arguments.seed)
    of_users = arguments.count * 6 // 10
    sample = chosen.sample(pools[0], of_users) + chosen.sample(pools[1], arguments.count - of_users)
    for number, (path, place, text) in enumerate(sample, 1):
        print(f"{number}. [{path}:{place}] {text[:MAX_LENGTH]}")


if __name__ == "__main__":
    main()
