#!/usr/bin/env bash
# Debian's Chromium for tests/leaderboards/test_browser.py; playwright drives it and downloads no browser of its own.
# Ends with 0 where a browser is there, else with 1 and the reason; it never asks for a password and never hangs.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if ! command -v apt-get >/dev/null; then
  echo "install_browser.sh: there is no apt-get here; install Chromium as this system does it" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "install_browser.sh: apt-get needs root, and sudo without a password is not there; run this as root" >&2
    exit 1
  fi
  as_root=(sudo -n)
fi
quick=(-qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o DPkg::Lock::Timeout=60)
packages=(chromium fonts-dejavu-core)
get() { timeout 600 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${quick[@]}" "$@" >/dev/null; }
get update || true  # without network, what is in the cache may do
if ! get install -y --no-install-recommends "${packages[@]}" || ! command -v chromium >/dev/null; then
  echo "install_browser.sh: apt-get could not install ${packages[*]}" >&2
  exit 1
fi
