#!/bin/sh
# Installs nginx for the gateway tests if it is missing. Prints nothing if it is installed.
#
# The tests use $NGINX, or `nginx` on PATH or in one of the sbin directories.
set -eu

# Debian does not put these directories on every user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

has_nginx() {
    command -v "${NGINX:-nginx}" >/dev/null 2>&1
}

if has_nginx; then exit 0; fi

if command -v apt-get >/dev/null 2>&1; then
    echo "Debian's package also starts nginx as a service on port 80, which the tests do not use. To stop" >&2
    echo "it, run \`systemctl disable --now nginx\`." >&2
fi
"$(dirname "$0")/install-package.sh" nginx
if ! has_nginx; then
    echo "nginx was installed, but this script does not find it. Set NGINX to the program." >&2
    exit 1
fi
