#!/bin/sh
# Runs the walkthroughs of README, the tutorial and the how-to guides, or of the files in its arguments. Compares
# their output with the output that the pages show. scripts/walk.py describes the format of a walkthrough.
set -eu

cd "$(dirname "$0")/.."
scripts/build-debug.sh
exec python3 scripts/walk.py "$@"
