#!/bin/sh
# Installs nginx for the tests of gateways, if it is missing. Prints nothing if it is installed.
#
# The tests use $NGINX, or `nginx` on PATH or in the directories of the system's administrator.
set -eu

# Debian does not put these directories on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

has_nginx() {
    command -v "${NGINX:-nginx}" >/dev/null 2>&1
}

if has_nginx; then exit 0; fi

if command -v apt-get >/dev/null 2>&1; then
    echo "Debian's package also starts an nginx of its own on port 80. It is not used here:" >&2
    echo "\`systemctl disable --now nginx\` stops it." >&2
fi
"$(dirname "$0")/install-package.sh" nginx
if ! has_nginx; then
    echo "nginx was installed, but it is in none of the known places: set NGINX to the program." >&2
    exit 1
fi
