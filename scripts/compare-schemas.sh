#!/bin/sh
# Compares the schemas that two revisions build: migrations/*.sql, then sql/functions/*.sql.
#
#   scripts/compare-schemas.sh REVISION REVISION
#
# Loads each revision into its own database in a temporary Postgres, and dumps both databases. If the
# dumps differ, prints the differences and exits with 1.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: scripts/compare-schemas.sh REVISION REVISION" >&2
    exit 64
fi

cd "$(dirname "$0")/.."

if [ -z "${COMPARE_SCHEMAS_URL-}" ]; then
    for revision; do
        git rev-parse --verify --quiet "$revision^{commit}" >/dev/null || {
            echo "no such revision: $revision" >&2
            exit 64
        }
    done
    # shellcheck disable=SC2016
    exec scripts/with-postgres.sh --empty sh -c 'COMPARE_SCHEMAS_URL=$DATABASE_URL exec "$0" "$@"' "$0" "$@"
fi

bindir=$(scripts/ensure-postgres.sh --bindir)
program() {
    if [ -x "$bindir/$1" ]; then echo "$bindir/$1"; else echo "$1"; fi
}
psql=$(program psql)
pg_dump=$(program pg_dump)
server=${COMPARE_SCHEMAS_URL%/*}

dumps=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-schemas.XXXXXX")
trap 'rm -rf "$dumps"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

sql() {
    "$psql" -X -q -v ON_ERROR_STOP=1 "$@" >/dev/null
}

# files REVISION FOLDER: prints the SQL files of the folder in their order, without the down migrations.
files() {
    git ls-tree --name-only "$1" "$2/" | grep '\.sql$' | grep -v '\.down\.sql$' | LC_ALL=C sort || true
}

# dump REVISION DATABASE: loads the revision and dumps its schema.
dump() {
    sql -d "$server/postgres" -c "CREATE DATABASE $2"
    for file in $(files "$1" migrations); do
        # Each migration runs in its own transaction, as in the service.
        git show "$1:$file" >"$dumps/file.sql"
        sql -d "$server/$2" -1 -f "$dumps/file.sql" || {
            echo "$file of $1 failed" >&2
            return 2
        }
    done
    echo 'SET check_function_bodies = off;' >"$dumps/file.sql"
    for file in $(files "$1" sql/functions); do
        git show "$1:$file" >>"$dumps/file.sql"
    done
    sql -d "$server/$2" -1 -f "$dumps/file.sql" || {
        echo "sql/functions of $1 failed" >&2
        return 2
    }
    # Newer versions of pg_dump write a random word around the dump.
    "$pg_dump" --schema-only -d "$server/$2" | sed '/^\\\(un\)\{0,1\}restrict /d' >"$dumps/$2.dump"
}

dump "$1" first
dump "$2" second

if diff -u -L "$1" -L "$2" "$dumps/first.dump" "$dumps/second.dump"; then
    echo "the schemas are the same: $(wc -l <"$dumps/second.dump" | tr -d ' ') lines"
else
    exit 1
fi
