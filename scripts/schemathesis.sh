#!/bin/sh
# Sends a demo server requests that its OpenAPI document allows and requests that it forbids, and checks every
# response against the document. The requests are the same in every run. Exits with a status other than 0 if it finds
# a violation.
set -eu

cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
    scripts/build-debug.sh
    scripts/ensure-python.sh tests/requirements-fuzz.txt
    exec python3 scripts/demo_server.py --timeout 300 scripts/schemathesis.sh --inside
fi

# From here on beside a server: TOLLGATE_URL and the admin keys are set.
account=TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC
work=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-fuzz.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM

FUZZ_API_KEY=$(
    curl -sS --fail-with-body -X POST "$TOLLGATE_URL/v1/accounts/$account/keys" \
        -H "Authorization: Bearer $TRONAGG_ADMIN_KEY" -H 'Content-Type: application/json' \
        -d '{"name":"fuzz"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["key"])'
)
# The admin key is another tenant's, so that nothing it does (suspending, revoking) takes the API
# key away; and TradeTally names its accounts freely, so that generated names are accounts.
FUZZ_ADMIN_KEY=$TRADETALLY_ADMIN_KEY
export FUZZ_API_KEY FUZZ_ADMIN_KEY

# By the names of the document's security schemes: each operation gets the credential that it asks
# for, and no other.
cat >"$work/schemathesis.toml" <<'TOML'
color = false
request-timeout = 10.0

[auth.openapi.api_key]
api_key = "${FUZZ_API_KEY}"

[auth.openapi.admin_key]
bearer = "${FUZZ_ADMIN_KEY}"

# Nothing of an earlier run changes this one.
[cache]
enabled = false

[generation]
max-examples = 60
deterministic = true
database = "none"

# Any 5xx is a finding, also a 503 that the document describes.
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
# A well-formed request may still be declined: a balance, a key's age, an account's format.
positive_data_acceptance.enabled = false
# A new account is there under its own name, not under the one that was generated next.
ensure_resource_availability.enabled = false

# It takes any method, as a gateway sends it; the document names one.
[[operations]]
include-path = "/v1/authorize/{tenant}/{environment}"
# The tenant of the API key. Any other is a 404.
parameters = { "path.tenant" = "tronagg", "path.environment" = "live" }
checks.unsupported_method.enabled = false
TOML

# In the temporary directory: it leaves caches where it runs.
schemathesis=$PWD/.venv/requirements-fuzz/bin/schemathesis
cd "$work"
"$schemathesis" --config-file schemathesis.toml \
    run "$TOLLGATE_URL/openapi.json" --phases examples,coverage,fuzzing,stateful
