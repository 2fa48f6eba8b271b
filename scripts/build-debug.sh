#!/bin/sh
# Prepares what every script that starts a demo server needs: Postgres, python3, curl and the debug binary.
set -eu

cd "$(dirname "$0")/.."
scripts/ensure-postgres.sh
scripts/ensure-python.sh
command -v curl >/dev/null 2>&1 || scripts/install-package.sh curl
cargo build --locked
