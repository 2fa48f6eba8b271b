#!/bin/sh
# Installs Chromium and its WebDriver for the browser tests, if they are missing. Prints nothing if both are
# installed.
#
# The tests use $CHROMEDRIVER, or `chromedriver` on PATH. The driver uses $CHROMIUM, or finds the browser itself.
set -eu

driver=${CHROMEDRIVER:-chromedriver}

has_browser() {
    for browser in ${CHROMIUM:+"$CHROMIUM"} chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$browser" >/dev/null 2>&1; then return; fi
    done
    [ -d "/Applications/Google Chrome.app" ] || [ -d "/Applications/Chromium.app" ]
}

is_complete() {
    command -v "$driver" >/dev/null 2>&1 && has_browser
}

if is_complete; then exit 0; fi

case $(uname -s) in
    Darwin)
        # The installation of these casks is interactive, so this script cannot run it.
        echo "The browser tests need Chrome and the chromedriver of the same version. Install them:" >&2
        echo "  brew install --cask google-chrome chromedriver" >&2
        echo "  xattr -d com.apple.quarantine \"\$(command -v chromedriver)\"" >&2
        exit 1
        ;;
esac

"$(dirname "$0")/install-package.sh" chromium apt-get=chromium,chromium-driver \
    dnf=chromium,chromium-headless,chromedriver apk=chromium,chromium-chromedriver
if ! is_complete; then
    # Ubuntu's package `chromium` is a snap, and this chromedriver cannot start a snap.
    echo "chromium was installed, but chromedriver is missing. Install Chromium or Chrome and the" >&2
    echo "chromedriver of the same version, and put both on PATH, or set CHROMIUM and CHROMEDRIVER." >&2
    exit 1
fi
