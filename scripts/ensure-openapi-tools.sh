#!/bin/sh
# Installs the npm packages of scripts/check-openapi.sh and scripts/check-rate-limit-clients.sh into
# target/openapi-check. tests/clients/package-lock.json pins their versions and hashes. A stamp file shows whether the
# installation is current, so that a second run takes no time and needs no network.
set -eu

cd "$(dirname "$0")/.."

place=target/openapi-check
is_new_enough() {
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

# Some packages of node contain npm and conflict with the separate npm package, so install only if npm is missing.
if ! command -v npm >/dev/null 2>&1; then
    scripts/install-package.sh npm apt-get=nodejs,npm dnf=nodejs,nodejs-npm apk=nodejs,npm brew=node
fi
if ! is_new_enough; then
    echo "node is $(node --version 2>&1), but the check needs 20.19 or newer of 20, or 22.12 or newer. Install" >&2
    echo "such a version and put it on PATH." >&2
    exit 1
fi

wanted="$(cksum <tests/clients/package-lock.json) $(node --version)"
if [ "$(cat "$place/stamp" 2>/dev/null)" = "$wanted" ] && [ -x "$place/node_modules/.bin/redocly" ]; then exit 0; fi

echo "Installing tests/clients/package-lock.json into $place" >&2
mkdir -p "$place"
rm -rf "$place/stamp" "$place/node_modules"
cp tests/clients/package.json tests/clients/package-lock.json "$place"
# The cache makes a later installation work without a network. npm's default retries would take minutes.
if ! npm ci --prefix "$place" --cache "$place/npm-cache" --prefer-offline --ignore-scripts --no-audit --no-fund \
    --no-update-notifier --loglevel=error --fetch-retries=2 --fetch-retry-maxtimeout=10000 --fetch-timeout=60000 \
    >&2; then
    echo "npm could not install the packages of tests/clients/package-lock.json. If the npm registry cannot be" >&2
    echo "reached, try again later. The check needs no network once the packages are installed." >&2
    exit 1
fi
printf '%s\n' "$wanted" >"$place/stamp"
