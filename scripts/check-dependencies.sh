#!/bin/sh
# Checks the dependencies against the rules in deny.toml: licences, sources and banned crates. Needs no network,
# except to install cargo-deny the first time.
#
# Arguments select other checks of cargo-deny. `advisories` looks for known vulnerabilities. It fetches the RustSec
# database, and asks the registry for yanked versions, so it needs a network.
#
# Uses the cargo-deny on PATH if it has the version below. Otherwise installs that version into target/tools.
set -eu

cd "$(dirname "$0")/.."

version=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools

has_version() {
    [ "$("$1" --version 2>/dev/null)" = "cargo-deny $version" ]
}

if has_version cargo-deny; then
    deny=cargo-deny
else
    deny=$tools/bin/cargo-deny
    if ! has_version "$deny"; then
        echo "Installing cargo-deny $version into $tools" >&2
        # A build without optimizations is faster, and the check still takes only seconds.
        if ! cargo install --quiet --locked --debug --root "$tools" --version "$version" cargo-deny; then
            echo "Cargo could not install cargo-deny $version. The first run needs a network." >&2
            exit 1
        fi
    fi
fi

[ $# -gt 0 ] || set -- bans licenses sources
exec "$deny" --locked --all-features check --hide-inclusion-graph "$@"
