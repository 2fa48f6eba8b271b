#!/bin/sh
# Sends a demo server requests that its OpenAPI document allows and requests that it forbids, and checks every
# response against the document. A fixed seed makes the requests of every run identical. Exits with a status other
# than 0 if it finds a violation.
set -eu

cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
    scripts/build-debug.sh
    scripts/ensure-python.sh tests/requirements-fuzz.txt
    exec python3 scripts/demo_server.py --timeout 300 scripts/schemathesis.sh --inside
fi

# demo_server.py runs this script again with a running server, and sets TOLLGATE_URL and the admin keys.
account=TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC
work=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-fuzz.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM

FUZZ_API_KEY=$(
    curl -sS --fail-with-body -X POST "$TOLLGATE_URL/v1/accounts/$account/keys" \
        -H "Authorization: Bearer $TRONAGG_ADMIN_KEY" -H 'Content-Type: application/json' \
        -d '{"name":"fuzz"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])'
)
# The admin key belongs to another tenant, so that its requests cannot suspend the account or revoke
# the API key. TradeTally accepts any account id, so generated ids are valid.
FUZZ_ADMIN_KEY=$TRADETALLY_ADMIN_KEY
export FUZZ_API_KEY FUZZ_ADMIN_KEY

# The sections have the names of the document's security schemes. Each operation gets only the
# credential that it requires.
cat >"$work/schemathesis.toml" <<'TOML'
color = false
request-timeout = 10.0

[auth.openapi.api_key]
api_key = "${FUZZ_API_KEY}"

[auth.openapi.admin_key]
bearer = "${FUZZ_ADMIN_KEY}"

# Without a cache, no earlier run affects this run.
[cache]
enabled = false

[generation]
max-examples = 60
deterministic = true
database = "none"

# Any 5xx is a finding, even a 503 that the document describes.
[checks]
not_a_server_error.enabled = true
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_headers_conformance.enabled = true
response_schema_conformance.enabled = true
negative_data_rejection.enabled = true
missing_required_header.enabled = true
unsupported_method.enabled = true
ignored_auth.enabled = true
# The service may decline a well-formed request, for example because of an insufficient balance.
positive_data_acceptance.enabled = false
# Disabled, because this check would request a new account under another generated id, and report the 404.
ensure_resource_availability.enabled = false

# Disabled, because the endpoint for gateways accepts any method. A gateway may forward the method of the
# client's request. The document names only one.
[[operations]]
include-path = "/v1/authorize/{tenant}/{environment}"
# These are the tenant and the environment of the API key. Any other values get a 404.
parameters = { "path.tenant" = "tronagg", "path.environment" = "live" }
checks.unsupported_method.enabled = false
TOML

# schemathesis writes caches into its working directory, so it runs in the temporary directory.
schemathesis=$PWD/.venv/requirements-fuzz/bin/schemathesis
cd "$work"
"$schemathesis" --config-file schemathesis.toml \
    run "$TOLLGATE_URL/openapi.json" --phases examples,coverage,fuzzing,stateful
