#!/bin/sh
# Runs the commands of README's walk, and compares their output with the output that README shows. walk.py describes
# the format of the walk.
set -eu

cd "$(dirname "$0")/.."
scripts/build-debug.sh
exec python3 scripts/walk.py "$@"
