#!/usr/bin/env bash
# Builds Tollgate in release mode, and measures it against other programs and against itself.
#
#   bench/run.sh           measures every pair, and writes bench/results.md
#   bench/run.sh NAME...   measures only the pairs with these names, and prints the results
#
# With BENCH_BASE=<commit> the script also builds that commit, and compares this tree with it.
#
# bench/README.md describes the pairs and the settings.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(uname)" != Linux ]; then
    echo "The benchmark needs Linux, because it pins programs to cores and reads /proc." >&2
    exit 1
fi

# Debian installs haproxy in /usr/sbin, which is not on every user's PATH.
PATH=$PATH:/usr/sbin
scripts/ensure-python.sh
# Checks the arguments before the build, which takes minutes.
python3 bench/run.py --check "$@"
if [ -n "${BENCH_BASE:-}" ]; then
    commit=$(git rev-parse --verify --quiet "$BENCH_BASE^{commit}") || {
        echo "BENCH_BASE: this repository has no commit $BENCH_BASE. Fetch it, or name another." >&2
        exit 1
    }
    export BENCH_BASE=$commit
fi
PG_BINDIR=$(scripts/ensure-postgres.sh --bindir)
export PG_BINDIR
command -v wrk >/dev/null || scripts/install-package.sh wrk
command -v haproxy >/dev/null || scripts/install-package.sh haproxy
[ -x "$PG_BINDIR/pgbench" ] || command -v pgbench >/dev/null ||
    scripts/install-package.sh pgbench apt-get=postgresql-contrib dnf=postgresql-contrib

if [ -n "${BENCH_BASE:-}" ]; then bench/build-base.sh "$BENCH_BASE"; fi
cargo build --release --locked --bins --examples
cargo bench --locked --no-run

exec python3 bench/run.py "$@"
