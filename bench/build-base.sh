#!/usr/bin/env bash
# Builds another commit in release mode, so that bench/run.py can compare this tree with it.
#
#   bench/build-base.sh SHA    the full id of a commit
#
# The result is in target/bench-base/SHA:
#
#   tree/        the files of the commit
#   programs/    tollgate, and bench_server and bench_lookups if the commit contains them
#
# If the same compiler has already built that commit, the script does not build it again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

sha=$1
mkdir -p "${CARGO_TARGET_DIR:-target}/bench-base"
bases=$(cd "${CARGO_TARGET_DIR:-target}/bench-base" && pwd)
tree=$bases/$sha/tree
programs=$bases/$sha/programs
# Cargo writes the packages of two checkouts to files with equal names. In a shared target directory, Cargo
# could use the programs of the wrong checkout. So the base commits use their own target directory. All base
# commits share it, so that Cargo builds the dependencies only once.
target=$bases/target
release=$target/release

compiler() {
    (cd "$tree" && rustc --version --verbose && echo "RUSTFLAGS=${RUSTFLAGS:-}")
}

if [ -f "$programs/compiler" ] && [ "$(compiler)" = "$(cat "$programs/compiler")" ]; then
    echo "bench: $sha is already built." >&2
    exit
fi

echo "bench: building $sha" >&2
rm -rf "${bases:?}/$sha"
mkdir -p "$tree"
# With `-m`, the files are newer than the results of an earlier base commit in the target directory, so Cargo
# builds them.
git archive --format=tar "$sha" | tar -x -m -C "$tree"
rm -f "$release/tollgate" "$release/examples/bench_server" "$release/examples/bench_lookups"
(cd "$tree" && CARGO_TARGET_DIR=$target cargo build --release --locked --bins --examples)

mkdir "$programs.new"
for program in tollgate examples/bench_server examples/bench_lookups; do
    # An older commit may not contain the programs for the benchmark.
    if [ "$program" != tollgate ] && [ ! -e "$release/$program" ]; then continue; fi
    if [ ! "$release/$program" -nt "$tree/Cargo.toml" ]; then
        echo "bench: $release/$program is missing or comes from another commit." >&2
        exit 1
    fi
    cp "$release/$program" "$programs.new/"
done
compiler >"$programs.new/compiler"
mv "$programs.new" "$programs"
