#!/bin/sh
# Installs Postgres's server programs, if they are missing. Prints nothing if they are installed.
#
#   scripts/ensure-postgres.sh            installs them if they are missing
#   scripts/ensure-postgres.sh --bindir   also prints their directory
#
# Searches $PG_BINDIR, then PATH, then the directories in which distributions and Homebrew install Postgres. It selects
# the newest version in these directories. PATH is not enough, because Debian does not put `initdb` there.
set -eu

has_server() {
    [ -x "$1/initdb" ] && [ -x "$1/postgres" ] && [ -x "$1/pg_ctl" ]
}

find_bindir() {
    if [ -n "${PG_BINDIR:-}" ]; then
        if has_server "$PG_BINDIR"; then
            echo "$PG_BINDIR"
            return
        fi
        echo "PG_BINDIR=$PG_BINDIR does not contain initdb, postgres and pg_ctl. Searching elsewhere" >&2
    fi
    if found=$(command -v initdb) && has_server "${found%/initdb}"; then
        echo "${found%/initdb}"
        return
    fi
    newest=0
    bindir=
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql*/ /usr/local/pgsql/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql*/bin; do
        has_server "$dir" || continue
        # Extracts the major version from a text such as "postgres (PostgreSQL) 17.2 (Debian …)".
        version=$("$dir/postgres" --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
        if [ "$version" -gt "$newest" ]; then
            newest=$version
            bindir=${dir%/}
        fi
    done
    [ -n "$bindir" ] && echo "$bindir"
}

if ! bindir=$(find_bindir); then
    if command -v apt-get >/dev/null 2>&1; then
        echo "Debian's package also creates the cluster \"main\" on port 5432, which Tollgate does not use. To" >&2
        echo "remove it, run \`pg_dropcluster --stop <version> main\`." >&2
    fi
    "$(dirname "$0")/install-package.sh" postgresql dnf=postgresql-server \
        apk=postgresql,postgresql-client brew=postgresql@17
    if ! bindir=$(find_bindir); then
        echo "Postgres was installed, but this script does not find initdb. Set PG_BINDIR to its directory." >&2
        exit 1
    fi
fi

if [ "${1:-}" = --bindir ]; then echo "$bindir"; fi
