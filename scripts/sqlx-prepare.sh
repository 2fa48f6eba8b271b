#!/bin/sh
# Writes the descriptions of all queries, like `cargo sqlx prepare`, but without sqlx-cli.
#
#   scripts/with-postgres.sh scripts/sqlx-prepare.sh [DIRECTORY]     (default: .sqlx)
#
# When sqlx's macros compile with a live database, they write the description of each query into SQLX_OFFLINE_DIR,
# which must exist. Cargo does not notice a change to this directory or a new migration. So this script touches the
# library, and Cargo then compiles the library again, with everything that depends on it.
set -eu

cd "$(dirname "$0")/.."
: "${DATABASE_URL:?run this under scripts/with-postgres.sh}"

target=${1:-.sqlx}
fresh=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-sqlx.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

touch src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$fresh cargo check --locked --all-targets

count=$(find "$fresh" -name 'query-*.json' | wc -l | tr -d ' ')
if [ "$count" -eq 0 ]; then
    echo "sqlx wrote no description of a query. Did Cargo compile the crate again?" >&2
    exit 1
fi
mkdir -p "$target"
rm -f "$target"/query-*.json
cp "$fresh"/query-*.json "$target"
echo "$target: $count queries"
