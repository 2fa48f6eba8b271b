#!/bin/sh
# Runs examples/bot.py against a demo server, and checks every outcome that a user of the bot can get.
set -eu

cd "$(dirname "$0")/.."

if [ "${1:-}" != --inside ]; then
    scripts/build-debug.sh
    scripts/ensure-python.sh tests/requirements.txt
    exec python3 scripts/demo_server.py --timeout 120 scripts/bot-test.sh --inside
fi

# demo_server.py runs this script again with a running server, and sets TOLLGATE_URL and
# TRONAGG_ADMIN_KEY.
python=$PWD/.venv/requirements/bin/python
bot=$PWD/examples/bot.py
account=TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC

work=$(mktemp -d "${TMPDIR:-/tmp}/tollgate-bot.XXXXXX")
proxy=
clean_up() {
    if [ -n "$proxy" ]; then kill "$proxy" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 143' TERM
# The bot runs outside the repository, so that it does not read a developer's .env.
cd "$work"

# api METHOD PATH [BODY]: sends a request as the platform's backend.
api() {
    curl -sS --fail-with-body -X "$1" "$TOLLGATE_URL/v1$2" \
        -H "Authorization: Bearer $TRONAGG_ADMIN_KEY" -H 'Content-Type: application/json' ${3:+-d "$3"} ||
        fail "$1 $2 was refused"
}

fail() {
    echo "bot-test: $1" >&2
    for stream in out err; do
        if [ -s "$work/$stream" ]; then sed "s/^/  the bot's std$stream: /" "$work/$stream" >&2; fi
    done
    exit 1
}

# bot_ends STATUS WHAT ARGUMENT...: runs the bot, and expects this exit status.
bot_ends() {
    wanted=$1 what=$2
    shift 2
    status=0
    "$python" "$bot" "$@" >out 2>err || status=$?
    [ "$status" -eq "$wanted" ] || fail "$what: expected exit status $wanted, got $status"
}

says() {
    grep -q -e "$2" "$1" || fail "$what: the bot's std$1 does not contain \"$2\""
    echo "ok: $what"
}

equal() {
    [ "$2" = "$3" ] || fail "$1: expected \"$2\", got \"$3\""
}

# Helpers: `balance` prints the amount that the bot shows, and `calculate` adds such amounts.
balance() {
    bot_ends 0 'read the balance' balance
    sed -n 's/^balance \([0-9.]*\) .*/\1/p' out
}
calculate() {
    "$python" -c "from decimal import Decimal as D; print(D('$1') $2 D('$3'))"
}

api POST "/accounts/$account/keys" '{"name":"bot"}' >created
field() {
    "$python" -c "import json; print(json.load(open('created'))['$1'])"
}
key_id=$(field id)
TRONAGG_API_KEY=$(field key)
TRONAGG_URL=$TOLLGATE_URL
export TRONAGG_API_KEY TRONAGG_URL

bot_ends 0 'the bot reads the balance' balance
says out "^account $account (active)\$"
before=$(balance)

bot_ends 0 'the bot buys' buy 1.500000 --reference first
says out '^purchase [a-z]*_[0-9a-z]* 1\.500000$'
equal 'the price is deducted from the balance' "$(calculate "$before" - 1.500000)" "$(balance)"

bot_ends 0 'the bot buys with an idempotency key' buy 0.250000 --reference second --idempotency-key bot-test-1
cp out bought
bot_ends 0 'the bot repeats a purchase' buy 0.250000 --reference second --idempotency-key bot-test-1
says err 'the purchase was made earlier'
equal 'the repeat is the same purchase' "$(cat bought)" "$(cat out)"
left=$(calculate "$before" - 1.750000)
equal 'the repeated purchase is charged only once' "$left" "$(balance)"

bot_ends 3 'a price above the balance is declined (402)' buy "$(calculate "$left" + 1)" --reference third
says err "$(calculate "$left" + 1) required, $left available"
equal 'the declined purchase is not charged' "$left" "$(balance)"

# A proxy between the bot and the service drops the response to the first request.
cat >proxy.py <<'PROXY'
import http.server, os, urllib.request

lost = False

class Proxy(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global lost
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = {name: self.headers[name] for name in ("X-API-Key", "Idempotency-Key", "Content-Type")}
        request = urllib.request.Request(os.environ["TOLLGATE_URL"] + self.path, body, kept, method="POST")
        with urllib.request.urlopen(request) as response:
            status, headers, body = response.status, response.headers, response.read()
        if not lost:
            lost, status, headers, body = True, 503, {"Retry-After": "0"}, b""
        self.send_response(status)
        for name in ("Content-Type", "Idempotent-Replayed", "Retry-After"):
            if headers.get(name):
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = http.server.HTTPServer(("127.0.0.1", 0), Proxy)
with open("proxy.new", "w") as file:
    file.write(f"http://127.0.0.1:{server.server_port}")
os.rename("proxy.new", "proxy.url")
server.serve_forever()
PROXY
"$python" proxy.py 2>/dev/null &
proxy=$!
waited=0
until [ -f proxy.url ]; do
    waited=$((waited + 1))
    [ "$waited" -le 100 ] || fail 'the proxy did not start'
    sleep 0.1
done
TRONAGG_URL=$(cat proxy.url)
bot_ends 0 'the bot retries after a 503 with the same idempotency key' buy 0.250000 --reference fourth
grep -q 'the purchase was made earlier' err || fail "$what: the retry was not recognized as a repeat"
says err '503: attempt 1 of 5, retrying in 0 s'
TRONAGG_URL=$TOLLGATE_URL
equal 'the purchase whose response was lost is charged once' "$(calculate "$left" - 0.250000)" "$(balance)"

api PATCH "/accounts/$account" '{"status":"suspended"}' >/dev/null
bot_ends 4 'a suspended account is refused (403)' buy 0.250000 --reference fifth
says err account_suspended
api PATCH "/accounts/$account" '{"status":"active"}' >/dev/null

api POST "/accounts/$account/keys/$key_id/revoke" '{}' >/dev/null
bot_ends 2 'a revoked key is refused (401)' buy 0.250000 --reference sixth
says err 'missing, invalid or revoked'

unset TRONAGG_API_KEY
bot_ends 2 'the bot reports a missing key' balance
says err 'TRONAGG_API_KEY is not set'

echo "bot-test: every check passed"
