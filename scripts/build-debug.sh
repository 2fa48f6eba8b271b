#!/bin/sh
# What the scripts that start a demo server have in common: Postgres, python3, curl and the debug binary.
set -eu

cd "$(dirname "$0")/.."
scripts/ensure-postgres.sh
scripts/ensure-python.sh
command -v curl >/dev/null 2>&1 || scripts/install-package.sh curl
cargo build --locked
