#!/bin/sh
# Checks that .sqlx/ matches the queries, the migrations and the SQL functions of this tree.
#
#   scripts/with-postgres.sh scripts/sqlx-check.sh
set -eu

cd "$(dirname "$0")/.."

fresh=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-sqlx.XXXXXX")
# The check changes nothing: with its old time back, src/lib.rs does not make other builds stale.
# (Unless somebody edited it meanwhile.)
cp -p src/lib.rs "$fresh/lib.rs"
restore() {
    if cmp -s "$fresh/lib.rs" src/lib.rs; then touch -r "$fresh/lib.rs" src/lib.rs; fi
    rm -rf "$fresh"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

scripts/sqlx-prepare.sh "$fresh/sqlx"
if ! diff -r .sqlx "$fresh/sqlx"; then
    echo >&2
    echo ".sqlx/ is not what the queries and migrations give: run \`make sqlx\` and commit the result." >&2
    exit 1
fi
echo ".sqlx/ is up to date"
