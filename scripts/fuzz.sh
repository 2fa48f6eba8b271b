#!/bin/sh
# Runs fuzz targets with cargo-fuzz, one after another. Stops at the first input that makes a target fail. cargo-fuzz
# writes this input to fuzz/artifacts/ and prints a command that reproduces the failure.
#
#   scripts/fuzz.sh                      runs every target for a minute
#   scripts/fuzz.sh SECONDS              runs every target for SECONDS
#   scripts/fuzz.sh SECONDS TARGET…      runs these targets for SECONDS
#
# Needs a nightly toolchain and a C++ compiler. $FUZZ_TOOLCHAIN selects a toolchain other than `nightly`. Uses the
# cargo-fuzz on PATH. If there is none, installs cargo-fuzz into target/tools.
set -eu

cd "$(dirname "$0")/.."

seconds=${1:-60}
[ $# -eq 0 ] || shift
case $seconds in
    '' | *[!0-9]*)
        echo "usage: scripts/fuzz.sh [SECONDS [TARGET…]]" >&2
        exit 2
        ;;
esac
toolchain=${FUZZ_TOOLCHAIN:-nightly}
tools=$PWD/${CARGO_TARGET_DIR:-target}/tools
case ${CARGO_TARGET_DIR:-} in
    /*) tools=$CARGO_TARGET_DIR/tools ;;
esac
PATH=$PATH:$tools/bin
export PATH

if ! cargo "+$toolchain" --version >/dev/null 2>&1; then
    echo "The toolchain $toolchain is missing. Run \`rustup toolchain install $toolchain\`." >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "Installing cargo-fuzz into $tools" >&2
    if ! cargo install --quiet --locked --debug --root "$tools" cargo-fuzz; then
        echo "Cargo could not install cargo-fuzz. The first run needs a network." >&2
        exit 1
    fi
fi

# Copies the service's Cargo.lock, so that the targets use the service's versions of the dependencies.
cp Cargo.lock fuzz/Cargo.lock

if [ $# -eq 0 ]; then
    for file in fuzz/targets/*.rs; do
        set -- "$@" "$(basename "$file" .rs)"
    done
fi
for target in "$@"; do
    echo "=== $target: $seconds s" >&2
    cargo "+$toolchain" fuzz run "$target" -- "-max_total_time=$seconds" -max_len=8192
done
