#!/bin/sh
# Installs a package with the system's package manager.
#
#   scripts/install-package.sh WHAT [MANAGER=PACKAGE[,PACKAGE...]]...
#
# WHAT is the name that messages show. It is also the name of the package for managers without an entry.
# Prints the command that it runs to stderr, and nothing to stdout.
set -eu

what=$1
shift

for manager in apt-get dnf pacman apk brew none; do
    if command -v "$manager" >/dev/null 2>&1; then break; fi
done

packages=$what
for entry in "$@"; do
    case $entry in
        "$manager="*) packages=${entry#*=} ;;
    esac
done
packages=$(printf '%s' "$packages" | tr ',' ' ')

sudo=
if [ "$manager" != brew ] && [ "$manager" != none ] && [ "$(id -u)" -ne 0 ]; then
    sudo=sudo
    command -v sudo >/dev/null 2>&1 || manager=none
fi

case $manager in
    apt-get) install='apt-get install -y --no-install-recommends' ;;
    dnf) install='dnf install -y' ;;
    pacman) install='pacman -S --needed --noconfirm' ;;
    apk) install='apk add' ;;
    brew) install='brew install' ;;
    *)
        echo "$what is missing, and this script cannot install it. There is no apt-get, dnf, pacman, apk or brew," >&2
        echo "or you may not use it. Install $what yourself and try again." >&2
        exit 1
        ;;
esac

echo "$what is missing. Installing it with: ${sudo:+$sudo }$install $packages" >&2
# The shell must split the commands and the package lists into words.
# shellcheck disable=SC2086
{
    if [ "$manager" = apt-get ]; then
        $sudo apt-get update >&2
        $sudo env DEBIAN_FRONTEND=noninteractive $install $packages >&2
    else
        $sudo $install $packages >&2
    fi
}
