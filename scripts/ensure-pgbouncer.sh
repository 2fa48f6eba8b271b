#!/bin/sh
# Installs PgBouncer for the pooler tests if it is missing. Prints nothing if it is installed.
#
# The tests use $PGBOUNCER, or `pgbouncer` on PATH or in one of the sbin directories.
set -eu

# Debian does not put these directories on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

has_pgbouncer() {
    command -v "${PGBOUNCER:-pgbouncer}" >/dev/null 2>&1
}

if has_pgbouncer; then exit 0; fi

if command -v apt-get >/dev/null 2>&1; then
    echo "Debian's package also starts PgBouncer as a service on port 6432, which the tests do not use. To" >&2
    echo "stop it, run \`systemctl disable --now pgbouncer\`." >&2
fi
"$(dirname "$0")/install-package.sh" pgbouncer
if ! has_pgbouncer; then
    echo "PgBouncer was installed, but this script does not find it. Set PGBOUNCER to the program." >&2
    exit 1
fi
