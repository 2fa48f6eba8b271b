#!/bin/sh
# Does what the README's walk tells a reader to do, and compares with what it shows.
# The format of the walk is described in walk.py.
set -eu

cd "$(dirname "$0")/.."
scripts/build-debug.sh
exec python3 scripts/walk.py "$@"
