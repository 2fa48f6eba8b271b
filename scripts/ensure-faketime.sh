#!/bin/sh
# Installs libfaketime if it is missing, for the tests that set the clock of a Postgres. Prints nothing if it is
# installed. On systems other than Linux the script does nothing, because these tests run on Linux only.
#
#   scripts/ensure-faketime.sh           installs it if it is missing
#   scripts/ensure-faketime.sh --path    installs nothing, and prints the path of the library
#
# Uses $LIBFAKETIME, or the library in one of the directories in which distributions install it.
set -eu

find_library() {
    for library in "${LIBFAKETIME:-}" /usr/lib/*/faketime/libfaketime.so.1 /usr/lib/faketime/libfaketime.so.1 \
        /usr/lib64/faketime/libfaketime.so.1 /usr/local/lib/faketime/libfaketime.so.1; do
        if [ -f "$library" ]; then
            echo "$library"
            return
        fi
    done
    return 1
}

if [ "${1:-}" = --path ]; then
    if ! find_library; then
        echo "libfaketime is missing. Install it with scripts/ensure-faketime.sh." >&2
        exit 1
    fi
    exit 0
fi

if [ "$(uname)" != Linux ] || find_library >/dev/null; then exit 0; fi
"$(dirname "$0")/install-package.sh" libfaketime apt-get=faketime
if ! find_library >/dev/null; then
    echo "libfaketime was installed, but this script does not find it. Set LIBFAKETIME to the path of" >&2
    echo "libfaketime.so.1." >&2
    exit 1
fi
