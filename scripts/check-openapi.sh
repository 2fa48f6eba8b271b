#!/bin/sh
# Lints the OpenAPI document, generates a TypeScript and a Python client, and type-checks programs that use them.
# A warning fails the check. tests/clients/ and tests/requirements-clients.txt pin the versions of the tools.
#
#   scripts/check-openapi.sh          checks docs/openapi.json
#   scripts/check-openapi.sh FILE     checks another document
set -eu

document=${1:-}
case $document in
    '' | /*) ;;
    *) document=$PWD/$document ;;
esac
cd "$(dirname "$0")/.."

scripts/ensure-openapi-tools.sh
# pip's default retries would take minutes without a network.
if ! PIP_RETRIES=2 PIP_DEFAULT_TIMEOUT=30 scripts/ensure-python.sh tests/requirements-clients.txt; then
    echo "pip could not install the packages of tests/requirements-clients.txt. They need Python 3.11 or newer." >&2
    echo "The first run also needs a network." >&2
    exit 1
fi
exec .venv/requirements-clients/bin/python tests/clients/check.py "${document:-docs/openapi.json}"
