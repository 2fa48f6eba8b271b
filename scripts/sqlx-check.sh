#!/bin/sh
# Checks that .sqlx/ matches the queries, the migrations and the SQL functions of this tree.
#
#   scripts/with-postgres.sh scripts/sqlx-check.sh
set -eu

cd "$(dirname "$0")/.."

fresh=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-sqlx.XXXXXX")
# Restores the modification time of src/lib.rs, so that other builds do not compile it again. If the file
# was edited meanwhile, it keeps its new time.
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
    echo ".sqlx/ does not match the queries and migrations. Run \`make sqlx\` and commit the result." >&2
    exit 1
fi
echo ".sqlx/ is up to date"
