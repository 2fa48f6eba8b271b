#!/usr/bin/env python3
"""Removes from mdBook's search index what it holds twice.

    scripts/shrink-search-index.py FILE

The index has a tree of words for each of the fields `title`, `body` and `breadcrumbs`. mdBook puts the words of a
section's body into the tree of `breadcrumbs` too, so the tree of `body` finds nothing more. Without it, the file that
each binary contains and each reader's browser loads is a third smaller. Fails and changes nothing if the tree of
`breadcrumbs` lacks a word.
"""

import json
import sys

START = "window.search = Object.assign(window.search, JSON.parse('"
END = "'));"
REDUNDANT, COMPLETE = "body", "breadcrumbs"


def sections(node, word=""):
    """Yields each word below a node of a tree, with the ids of the sections that contain it."""
    if node["docs"]:
        yield word, set(node["docs"])
    for letter, child in node.items():
        if letter not in ("docs", "df"):
            yield from sections(child, word + letter)


def shrink(index):
    trees = index["index"]["index"]
    complete = dict(sections(trees[COMPLETE]["root"]))
    for word, ids in sections(trees[REDUNDANT]["root"]):
        if not ids <= complete.get(word, set()):
            raise SystemExit(f"The search index has {word!r} in {REDUNDANT!r} alone. It cannot be shrunk.")
    del trees[REDUNDANT]
    del index["search_options"]["fields"][REDUNDANT]
    index["index"]["fields"].remove(REDUNDANT)


def main():
    path = sys.argv[1]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not (text.startswith(START) and text.endswith(END)):
        raise SystemExit(f"{path} is not a search index as mdBook 0.5 writes it.")
    quoted = text[len(START) : -len(END)]
    index = json.loads(quoted.replace("\\'", "'").replace("\\\\", "\\"))
    shrink(index)
    compact = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    quoted = compact.replace("\\", "\\\\").replace("'", "\\'")
    with open(path, "w", encoding="utf-8") as file:
        file.write(START + quoted + END)


if __name__ == "__main__":
    main()
