#!/bin/sh
# Type-checks and runs programs that parse the rate limit fields with published libraries, in Python and in TypeScript,
# against a demo server. tests/clients/ and tests/requirements-clients.txt pin the versions of the libraries.
set -eu

cd "$(dirname "$0")/.."

tools=target/openapi-check
python=.venv/requirements-clients/bin/python

if [ "${1:-}" != --inside ]; then
    scripts/build-debug.sh
    scripts/ensure-openapi-tools.sh
    scripts/ensure-python.sh tests/requirements-clients.txt
    "$tools/node_modules/.bin/tsc" --project tests/clients/rate-limits.tsconfig.json
    "$python" -m mypy --strict --no-error-summary --cache-dir "$tools/mypy" tests/clients/rate_limits.py
    exec python3 scripts/demo_server.py --timeout 120 scripts/check-rate-limit-clients.sh --inside
fi

# demo_server.py runs this script again with a running server, and sets TOLLGATE_URL and TRADETALLY_ADMIN_KEY.

# api METHOD PATH BODY: sends a request as the platform's backend.
api() {
    curl -sS --fail-with-body -X "$1" "$TOLLGATE_URL/v1$2" \
        -H "Authorization: Bearer $TRADETALLY_ADMIN_KEY" -H 'Content-Type: application/json' -d "$3"
}

# client ACCOUNT COMMAND...: runs a client with a new key of a new account.
client() {
    account=$1
    shift
    api PUT "/accounts/$account" '{"rate_limits":[{"name":"default","limit":10,"window_seconds":86400}]}' >/dev/null
    created=$(
        api POST "/accounts/$account/keys" \
            '{"name":"client","rate_limits":[{"name":"default","limit":2,"window_seconds":3600}]}'
    )
    API_KEY=$(printf '%s' "$created" | python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])')
    export API_KEY
    "$@"
}

client rate-limits-python "$python" tests/clients/rate_limits.py
client rate-limits-typescript node "$tools/rate-limits/rate-limits.mjs"
