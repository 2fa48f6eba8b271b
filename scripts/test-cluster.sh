#!/bin/sh
# Runs tests/cluster: two services on a Patroni cluster that fails over. Passes its arguments on; see
# tests/cluster/main.py.
#
# The binary is target/debug/tollgate, or the one in TOLLGATE_BIN, which is then not built.
set -eu

cd "$(dirname "$0")/.."
scripts/ensure-cluster-tools.sh
scripts/ensure-python.sh tests/requirements-cluster.txt
PG_BINDIR=$(scripts/ensure-postgres.sh --bindir)
export PG_BINDIR
[ -n "${TOLLGATE_BIN:-}" ] || cargo build --locked
exec .venv/requirements-cluster/bin/python tests/cluster/main.py "$@"
