"""A bare machine gets its browser before the tests, and a machine that cannot get one still runs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/leaderboards/install_browser.sh"
INSTALLS = """echo "$@" >> "$HOME/calls"
case "$*" in *install*) printf "" > "$HOME/bin/chromium"; chmod +x "$HOME/bin/chromium";; esac"""
FAILS = 'echo "$@" >> "$HOME/calls"\nexit 100'


class Machine:
    """A machine with these commands and no others, and what was called on it."""

    def __init__(self, home: Path, **scripts: str) -> None:
        self.home, self.bin = home, home / "bin"
        self.bin.mkdir()
        for name in ("bash", "chmod", "dirname", "env", "timeout"):
            (self.bin / name).symlink_to(shutil.which(name))
        for name, script in {"id": "echo 0", **scripts}.items():
            (self.bin / name.replace("_", "-")).write_text(f"#!{shutil.which('bash')}\n{script}\n")
            (self.bin / name.replace("_", "-")).chmod(0o755)

    def run(self, script: Path) -> subprocess.CompletedProcess[str]:
        chosen = {"PATH": str(self.bin), "HOME": str(self.home)}
        return subprocess.run([str(self.bin / "bash"), str(script)], env=chosen, capture_output=True, text=True)

    @property
    def calls(self) -> list[str]:
        file = self.home / "calls"
        return file.read_text().splitlines() if file.is_file() else []


@pytest.mark.parametrize("name", ["chromium", "chromium_browser", "google_chrome"])
def test_a_browser_that_is_there_is_enough(tmp_path, name):
    machine = Machine(tmp_path, **{name: ":", "apt_get": INSTALLS})
    assert machine.run(SCRIPT).returncode == 0
    assert machine.calls == []


def test_root_on_debian_gets_one_without_sudo(tmp_path):
    machine = Machine(tmp_path, apt_get=INSTALLS)
    done = machine.run(SCRIPT)
    assert done.returncode == 0, done.stderr
    update, install = machine.calls
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends chromium fonts-dejavu-core")


@pytest.mark.parametrize(
    ("commands", "reason"),
    [
        ({"apt_get": FAILS}, "apt-get could not install chromium"),
        ({}, "there is no apt-get here"),
        ({"apt_get": INSTALLS, "id": "echo 1000"}, "apt-get needs root"),
        ({"apt_get": INSTALLS, "id": "echo 1000", "sudo": "exit 1"}, "apt-get needs root"),
    ],
)
def test_where_none_can_be_had_the_reason_is_said_and_the_tests_run(tmp_path, commands, reason):
    machine = Machine(tmp_path, **commands, make='echo "make $*" >> "$HOME/calls"')
    done = machine.run(SCRIPT)
    assert done.returncode == 1
    assert reason in done.stderr
    done = machine.run(ROOT / ".ci/run")
    assert done.returncode == 0
    assert "No browser could be installed" in done.stdout
    assert [call for call in machine.calls if call.startswith("make")] == ["make lint types", "make test"]
