#!/usr/bin/env bash
# Builds another commit in release, so that bench/run.py can compare this tree with it.
#
#   bench/build-base.sh SHA    the full id of a commit
#
# The result is in target/bench-base/SHA:
#
#   tree/        the files of the commit
#   programs/    tollgate, and bench_server and bench_lookups if the commit has them
#
# A commit that is there already, built by the same compiler, is not built again.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

sha=$1
mkdir -p "${CARGO_TARGET_DIR:-target}/bench-base"
bases=$(cd "${CARGO_TARGET_DIR:-target}/bench-base" && pwd)
tree=$bases/$sha/tree
programs=$bases/$sha/programs
# Cargo gives the packages of two checkouts the same file names. In a shared target directory it may take
# the programs of one checkout for those of the other, so the base commits have a target directory of
# their own. They share it with each other: the dependencies are built only once for all of them.
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
# `-m`: the files are newer than what an earlier base commit left in the target directory. Cargo sees
# from that that it has to build.
git archive --format=tar "$sha" | tar -x -m -C "$tree"
rm -f "$release/tollgate" "$release/examples/bench_server" "$release/examples/bench_lookups"
(cd "$tree" && CARGO_TARGET_DIR=$target cargo build --release --locked --bins --examples)

mkdir "$programs.new"
for program in tollgate examples/bench_server examples/bench_lookups; do
    # An older commit may have no programs for the benchmark.
    if [ "$program" != tollgate ] && [ ! -e "$release/$program" ]; then continue; fi
    if [ ! "$release/$program" -nt "$tree/Cargo.toml" ]; then
        echo "bench: $release/$program is missing, or was built from another commit." >&2
        exit 1
    fi
    cp "$release/$program" "$programs.new/"
done
compiler >"$programs.new/compiler"
mv "$programs.new" "$programs"
