#!/bin/sh
# Runs tests/cluster, which tests two nodes on a Patroni cluster that fails over. Passes its arguments to
# tests/cluster/main.py, which documents them.
#
# Builds target/debug/tollgate, unless TOLLGATE_BIN names another binary.
set -eu

cd "$(dirname "$0")/.."
scripts/ensure-cluster-tools.sh
scripts/ensure-python.sh tests/requirements-cluster.txt
PG_BINDIR=$(scripts/ensure-postgres.sh --bindir)
export PG_BINDIR
[ -n "${TOLLGATE_BIN:-}" ] || cargo build --locked
exec .venv/requirements-cluster/bin/python tests/cluster/main.py "$@"
