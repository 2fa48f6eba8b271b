#!/bin/sh
# Installs OpenSSL for the certificate tests if it is missing. Prints nothing if it is installed.
#
# The tests need OpenSSL 3. LibreSSL, which macOS includes, does not support `openssl req -CA`.
set -eu

has_openssl() {
    case $(openssl version 2>/dev/null) in
        "OpenSSL "[3-9]*) return 0 ;;
        *) return 1 ;;
    esac
}

if has_openssl; then exit 0; fi

"$(dirname "$0")/install-package.sh" openssl
if ! has_openssl; then
    echo "\`openssl\` on PATH is not OpenSSL 3. Put OpenSSL 3 first on PATH." >&2
    exit 1
fi
