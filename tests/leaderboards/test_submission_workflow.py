"""What the check of a submission's pull request looks at: the files that are new, not those that were installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sound_submission as helpers
import yaml

from mrsr_bench.leaderboards.board import results_folder
from mrsr_bench.leaderboards.schema import as_text, file_name_of, make

ROOT = Path(__file__).parents[2]
CHECK = "tests/leaderboards/test_results_folder.py"
GOOD = "thick-6--cubic--62dd296b.json"


def step_with(part: str) -> dict:
    """The step of the workflow whose commands hold ``part``."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/submission.yml").read_text())
    (step,) = (step for job in workflow["jobs"].values() for step in job["steps"] if part in step.get("run", ""))
    return step


def checked(folder: Path) -> tuple[int, str]:
    """Exit code and output of the folder's tests on another folder than the installed one."""
    chosen = {**os.environ, "MRSR_BENCH_RESULTS": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", CHECK]
    done = subprocess.run(command, cwd=ROOT, env=chosen, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout


@pytest.fixture
def folder(tmp_path) -> Path:
    """One accepted result, alone."""
    made = tmp_path / "results"
    made.mkdir()
    shutil.copy(results_folder() / GOOD, made)
    return made


def test_the_workflow_names_the_folder_that_holds_the_new_files():
    step = step_with(CHECK)
    assert step["env"]["MRSR_BENCH_RESULTS"] == "${{ github.workspace }}/base/leaderboards/results"
    assert 'cp "$file" "$MRSR_BENCH_RESULTS"' in step["run"]


def test_a_sound_folder_passes_its_check(folder):
    code, said = checked(folder)
    assert code == 0, said


def test_a_planted_bad_file_fails_the_check(folder):
    changed = helpers.content(method="mdcsrn_b4u4", start=80.0)
    planted = make(changed, "test")
    (folder / file_name_of(planted)).write_text(as_text([planted]), encoding="utf-8")
    code, said = checked(folder)
    assert code == 1
    assert f"test_what_was_accepted_would_be_accepted_today[{file_name_of(planted)}]" in said
    assert f"[{GOOD}]" not in said
