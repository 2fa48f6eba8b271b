#!/bin/sh
# Builds the book in docs/ into docs/book/, which the server embeds. First regenerates the reference pages that
# `tollgate reference` prints.
#
#   scripts/build-docs.sh            writes docs/src/reference/ and docs/book/
#   scripts/build-docs.sh --check    writes nothing, and fails if the committed pages are not current
#
# Build the debug binary first. The script works in a temporary directory, so that a failure changes nothing. The
# build is reproducible: equal sources produce equal bytes on every machine.
set -eu

cd "$(dirname "$0")/.."

mode=${1:-write}
case $mode in
    write | --check) ;;
    *)
        echo "usage: scripts/build-docs.sh [--check]" >&2
        exit 2
        ;;
esac

generated="http-api settings commands errors metrics"

scripts/ensure-mdbook.sh
target=${CARGO_TARGET_DIR:-target}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cp -R docs/book.toml docs/src docs/theme "$work"
mkdir -p "$work/src/reference"
for page in $generated; do
    "$target/debug/tollgate" reference "$page" >"$work/src/reference/$page.md"
done

if ! "$target/tools/bin/mdbook" build --dest-dir "$work/out" "$work" >"$work/log" 2>&1 || grep -q WARN "$work/log"; then
    cat "$work/log" >&2
    echo "mdBook could not build docs/ without warnings." >&2
    exit 1
fi

# finish FILE: edits a page that mdBook wrote. Inline styles become classes. An empty heading of a table becomes
# a cell. In the table of contents, the names of pages replace the names of sources. An image that a click
# enlarges becomes a plain image.
finish() {
    sed -E \
        -e 's/<(td|th) style="text-align: left">/<\1>/g' \
        -e 's/<(td|th) style="text-align: right">/<\1 class="end">/g' \
        -e 's|<th( [^>]*)?></th>|<td\1></td>|g' \
        -e 's/^( *<li[^>]*><a[^>]* href="[^"]*)\.md"/\1.html"/' \
        -e 's|<label class="checkbox-label"><input class="checkbox-img" type="checkbox">(<img [^>]*>)<span class="img-wrapper"><img [^>]*></span></label>|\1|g' \
        "$1"
}

# Copies only the files that the pages need. mdBook also writes its own theme, with fonts and scripts that these pages
# do not load.
book=$work/book
mkdir -p "$book/theme"
(cd "$work/out" && find . -type f -name '*.html' ! -path ./toc.html) | while IFS= read -r page; do
    mkdir -p "$book/$(dirname "$page")"
    finish "$work/out/$page" >"$book/$page"
done
(cd "$work/src" && find . -type f \( -name '*.png' -o -name '*.svg' \)) | while IFS= read -r image; do
    mkdir -p "$book/$(dirname "$image")"
    cp "$work/src/$image" "$book/$image"
done
cp "$work/out/theme/page.css" "$work/out/theme/theme.js" "$work/out/theme/page.js" "$work/out/theme/search.js" \
    src/dashboard/assets/favicon.svg "$book/theme"
cp "$work/out/elasticlunr.min.js" "$work/out/searchindex.js" "$book"
scripts/shrink-search-index.py "$book/searchindex.js"
find "$book" -type f -exec chmod 644 {} +

if [ "$mode" = --check ]; then
    current=yes
    for page in $generated; do
        diff -u "docs/src/reference/$page.md" "$work/src/reference/$page.md" || current=no
    done
    diff -qr docs/book "$book" || current=no
    if [ "$current" = no ]; then
        echo "The book does not match its sources and the program. Run \`make docs\` and commit the result." >&2
        exit 1
    fi
else
    mkdir -p docs/src/reference
    for page in $generated; do
        cp "$work/src/reference/$page.md" "docs/src/reference/$page.md"
    done
    rm -rf docs/book
    cp -R "$book" docs/book
fi
