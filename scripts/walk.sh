#!/bin/sh
# Runs the walks of README, the tutorial and the how-to guides, or the walks of the files in its arguments. Compares
# their output with the output that the pages show. scripts/walk.py describes the format of a walk.
set -eu

cd "$(dirname "$0")/.."
scripts/build-debug.sh
exec python3 scripts/walk.py "$@"
