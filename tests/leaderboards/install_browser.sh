#!/usr/bin/env bash
# Debian's Chromium for tests/leaderboards/test_browser.py; playwright drives it and downloads no browser of its own.
set -euo pipefail
if command -v chromium >/dev/null; then exit 0; fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y --no-install-recommends chromium fonts-dejavu-core
