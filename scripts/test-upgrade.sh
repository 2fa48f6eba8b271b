#!/usr/bin/env bash
# Upgrades running nodes from the previous version to this version, one after another, under load.
#
#   scripts/test-upgrade.sh
#
# tests/upgrade/previous-version names the commit of the previous version. The script builds it in a git worktree, with
# the dependencies that were compiled for this version, and keeps the binary in target/upgrade/. If the same compiler
# has already built that commit, the script does not build it again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

sha=$(cat tests/upgrade/previous-version)
if ! git cat-file -e "$sha^{commit}" 2>/dev/null; then
    echo "upgrade test: the commit of the previous version is not in this clone:" >&2
    echo "    $sha (tests/upgrade/previous-version)" >&2
    echo "In a shallow clone, run \`git fetch --unshallow\`, or \`git fetch origin $sha\`." >&2
    exit 1
fi

scripts/ensure-postgres.sh
scripts/ensure-python.sh

mkdir -p "${CARGO_TARGET_DIR:-target}/upgrade"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
export CARGO_TARGET_DIR=$target
binary=$target/debug/tollgate
previous=$target/upgrade/$sha
tree=$target/upgrade/tree

compiler() {
    rustc --version --verbose && echo "RUSTFLAGS=${RUSTFLAGS:-}"
}

remove_tree() {
    git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"
    git worktree prune
}

# The package needs different profiles in the two trees. Otherwise its files would have equal names, and Cargo could
# use the program of the wrong tree. The dependencies have equal file names in both trees, so Cargo builds them only
# once.
build_previous() {
    echo "upgrade test: building the previous version, $sha" >&2
    rm -rf "$previous" "$previous.new"
    remove_tree
    trap remove_tree EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    git worktree add --quiet --detach "$tree" "$sha"
    rm -f "$binary"
    (cd "$tree" && cargo build --locked --bin tollgate --config 'profile.dev.package.tollgate.codegen-units = 255')
    mkdir "$previous.new"
    cp "$binary" "$previous.new/tollgate"
    compiler >"$previous.new/compiler"
    mv "$previous.new" "$previous"
    remove_tree
    trap - EXIT INT TERM
}

if [ ! -f "$previous/compiler" ] || [ "$(compiler)" != "$(cat "$previous/compiler")" ]; then build_previous; fi

cargo build --locked --bin tollgate
if cmp -s "$previous/tollgate" "$binary"; then
    echo "upgrade test: both versions are the same program. Remove $target/upgrade and try again." >&2
    exit 1
fi
exec python3 -B tests/upgrade/run.py --old "$previous/tollgate" --new "$binary"
