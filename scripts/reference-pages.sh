#!/bin/sh
# Writes the pages of the book's reference that `tollgate reference` prints to docs/src/reference/.
set -eu
cd "$(dirname "$0")/.."

for page in settings commands errors metrics http-api; do
    file=docs/src/reference/$page.md
    cargo run --locked --quiet -- reference "$page" > "$file.new"
    mv "$file.new" "$file"
done
