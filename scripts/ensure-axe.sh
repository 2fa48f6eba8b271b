#!/bin/sh
# Installs axe-core as target/browser-test/axe.min.js for the browser tests. axe-core finds accessibility problems in a
# page. tests/browser/package-lock.json pins its version and hash. A stamp file shows whether the installation is
# current, so that a second run takes no time.
set -eu

cd "$(dirname "$0")/.."

place=target/browser-test
wanted=$(cksum <tests/browser/package-lock.json)
if [ "$(cat "$place/stamp" 2>/dev/null)" = "$wanted" ] && [ -s "$place/axe.min.js" ]; then exit 0; fi

# Some packages of node contain npm and conflict with the separate npm package, so install only if npm is missing.
if ! command -v npm >/dev/null 2>&1; then
    scripts/install-package.sh npm apt-get=nodejs,npm dnf=nodejs,nodejs-npm apk=nodejs,npm brew=node
fi

echo "Installing tests/browser/package-lock.json into $place" >&2
rm -rf "$place"
mkdir -p "$place"
cp tests/browser/package.json tests/browser/package-lock.json "$place"
npm ci --prefix "$place" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
cp "$place/node_modules/axe-core/axe.min.js" "$place/axe.min.js"
printf '%s\n' "$wanted" >"$place/stamp"
