#!/bin/sh
# Installs mdBook, which builds the book in docs/, into target/tools. Prints nothing if that version is installed.
#
# The version is fixed, because another version writes different pages. The first run builds mdBook, which takes a few
# minutes and needs a network.
set -eu

cd "$(dirname "$0")/.."

version=0.5.4
tools=${CARGO_TARGET_DIR:-target}/tools

if [ "$("$tools/bin/mdbook" --version 2>/dev/null)" = "mdbook v$version" ]; then exit 0; fi

echo "Installing mdBook $version into $tools" >&2
if ! cargo install --quiet --locked --no-default-features --features search --root "$tools" --version "$version" \
    mdbook; then
    echo "Cargo could not install mdBook $version. The first run needs a network." >&2
    exit 1
fi
