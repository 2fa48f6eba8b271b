#!/bin/sh
# Installs Postgres, python3 and curl if they are missing, and builds the debug binary. Every script that starts a demo
# server needs them.
set -eu

cd "$(dirname "$0")/.."
scripts/ensure-postgres.sh
scripts/ensure-python.sh
command -v curl >/dev/null 2>&1 || scripts/install-package.sh curl
cargo build --locked
