#!/bin/sh
# Installs the programs of `make test-cluster` that are missing: etcd, HAProxy, PgBouncer and Postgres. Debian and
# Ubuntu only. Prints nothing if all are installed.
set -eu

cd "$(dirname "$0")/.."
# Debian does not put these directories on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# ensure PROGRAM PACKAGE SERVICE: installs the package if the program is missing. SERVICE is the service that the
# package starts.
ensure() {
    if command -v "$1" >/dev/null 2>&1; then return; fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "\`make test-cluster\` needs $1. This script installs it on Debian and Ubuntu only. Install it" >&2
        echo "yourself and put it on PATH." >&2
        exit 1
    fi
    echo "Debian's package also starts $1 as a service, which the tests do not use. To stop it, run" >&2
    echo "\`systemctl disable --now $3\`." >&2
    scripts/install-package.sh "$2"
    if ! command -v "$1" >/dev/null 2>&1; then
        echo "$2 was installed, but this script does not find $1. Put it on PATH." >&2
        exit 1
    fi
}

ensure etcd etcd-server etcd
ensure haproxy haproxy haproxy
scripts/ensure-pgbouncer.sh
scripts/ensure-postgres.sh
