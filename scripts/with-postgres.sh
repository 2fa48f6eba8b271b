#!/bin/sh
# Runs a command with a temporary Postgres whose database contains the schema: the migrations and the SQL functions.
#
#   scripts/with-postgres.sh [--empty] COMMAND [ARGUMENT]...
#
# With --empty the database is empty, and the script compiles nothing. The command gets DATABASE_URL. The server listens
# on a Unix socket in its own directory, never on a port, and writes without fsync. The script stops and removes the
# server even if the command fails.
set -eu

schema=yes
if [ "${1-}" = --empty ]; then
    schema=no
    shift
fi
if [ $# -eq 0 ]; then
    echo "usage: scripts/with-postgres.sh [--empty] COMMAND [ARGUMENT]..." >&2
    exit 64
fi

root=$(cd "$(dirname "$0")/.." && pwd)
bindir=$("$root/scripts/ensure-postgres.sh" --bindir)
psql=$bindir/psql
[ -x "$psql" ] || psql=psql

# libpq variables in the user's environment may point to another server.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGPASSWORD PGDATABASE PGOPTIONS PGSERVICE PGSSLMODE PGDATA

# Postgres refuses to run as root. If root calls this script, another user runs the cluster.
owner=
if [ "$(id -u)" -eq 0 ]; then
    owner=postgres
    id "$owner" >/dev/null 2>&1 || owner=nobody
fi

as_owner() {
    if [ -z "$owner" ]; then
        "$@"
    elif setpriv --version >/dev/null 2>&1; then
        setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups -- "$@"
    else
        # shellcheck disable=SC2016
        su -s /bin/sh -c 'exec "$0" "$@"' -- "$owner" "$@"
    fi
}

# The directory is directly under /tmp, because the owner must be able to enter it, and because the path of a socket
# must be short.
dir=$(mktemp -d /tmp/tollgate-pg.XXXXXX)

remove() {
    trap - EXIT
    if [ -f "$dir/data/postmaster.pid" ]; then
        (cd "$dir" && as_owner "$bindir/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null) || true
    fi
    rm -rf "$dir"
}
trap remove EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -n "$owner" ]; then chown "$owner" "$dir"; fi

# The owner may be unable to enter the current directory.
(
    cd "$dir"
    as_owner "$bindir/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 &&
        as_owner "$bindir/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w start >/dev/null \
            -o "-k $dir -c listen_addresses= -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
) || {
    echo "the temporary Postgres did not start:" >&2
    cat "$dir/initdb.log" "$dir/data/server.log" >&2 2>/dev/null || true
    exit 1
}

sql() {
    "$psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -U postgres "$@"
}

sql -d postgres -c 'CREATE DATABASE tollgate'
DATABASE_URL=postgres://postgres@$(printf '%s' "$dir" | sed 's,/,%2F,g')/tollgate
export DATABASE_URL

if [ "$schema" = yes ]; then
    (
        cd "$root"
        cargo run --quiet --locked --no-default-features --features schema --example load_schema
    )
fi

"$@"
