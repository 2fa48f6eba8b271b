#!/bin/sh
# Installs python3 if it is missing, and the packages of a requirements file.
#
#   scripts/ensure-python.sh                           only python3
#   scripts/ensure-python.sh tests/requirements.txt    also these packages, into .venv/requirements/
#
# The packages go into the virtual environment .venv/<name of the file>, never into the system. A stamp file in this
# environment shows whether it is current, so that a second run takes no time.
set -eu

cd "$(dirname "$0")/.."

works() {
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

if ! works; then
    # Debian's package python3 lacks ensurepip.
    scripts/install-package.sh python3 apt-get=python3,python3-venv dnf=python3,python3-pip pacman=python brew=python
    if ! works; then
        echo "python3 is $(python3 --version 2>&1), but 3.10 or newer with venv is required. Install it on PATH." >&2
        exit 1
    fi
fi

requirements=${1:-}
[ -n "$requirements" ] || exit 0

venv=.venv/$(basename "$requirements" .txt)
wanted="$(cksum <"$requirements") $(python3 --version)"
if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi

echo "Installing $requirements into $venv" >&2
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements" >&2
printf '%s\n' "$wanted" >"$venv/stamp"
