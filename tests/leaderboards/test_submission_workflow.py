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
GOOD = min(path.name for path in results_folder().glob("thick-6--cubic--*.json"))


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


def git(folder: Path, *argv: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *argv], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def proposed(tmp_path: Path, change) -> tuple[int, str, list[str]]:
    """Exit code, output and the files taken, where a pull request makes this ``change`` to the repository."""
    origin, base = tmp_path / "origin", tmp_path / "base"
    (origin / "leaderboards/results").mkdir(parents=True)
    (origin / "leaderboards/results/old.json").write_text("{}")
    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", ".")
    git(origin, "commit", "-q", "-m", "base")
    git(tmp_path, "clone", "-q", str(origin), "base")
    start = git(origin, "rev-parse", "HEAD")
    change(origin)
    git(origin, "add", "--all")
    git(origin, "commit", "-q", "-m", "proposed")
    git(origin, "update-ref", "refs/pull/7/head", "HEAD")
    chosen = {**os.environ, "NUMBER": "7", "BASE": start}
    script = ["bash", "-eo", "pipefail", "-c", step_with("git merge-base")["run"]]
    done = subprocess.run(script, cwd=base, env=chosen, capture_output=True, text=True)
    new = tmp_path / "new"
    return done.returncode, done.stdout, sorted(path.name for path in new.iterdir()) if new.is_dir() else []


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")


@needs_git
def test_a_pull_request_that_adds_results_is_taken(tmp_path):
    code, _, taken = proposed(tmp_path, lambda at: (at / "leaderboards/results/a--b--c.json").write_text("[]"))
    assert (code, taken) == (0, ["a--b--c.json"])


OTHER = {
    "another result changed": lambda at: (at / "leaderboards/results/old.json").write_text("[]"),
    "another result removed": lambda at: (at / "leaderboards/results/old.json").unlink(),
    "code": lambda at: (at / "verify.py").write_text(""),
    "a workflow": lambda at: (at / "submission.yml").write_text(""),
    "a strange name": lambda at: (at / "leaderboards/results/.hidden.json").write_text("{}"),
}


@needs_git
@pytest.mark.parametrize("what", OTHER)
def test_a_pull_request_that_does_more_is_refused(tmp_path, what):
    code, said, taken = proposed(tmp_path, OTHER[what])
    assert (code, taken) == (1, [])
    assert "changes nothing else (maintainers: set the label maintenance)" in said


@needs_git
def test_a_link_is_no_result(tmp_path):
    code, said, _ = proposed(tmp_path, lambda at: (at / "leaderboards/results/a.json").symlink_to("old.json"))
    assert (code, "is no ordinary file" in said) == (1, True)


def test_maintainers_have_a_way_round():
    workflow = yaml.safe_load((ROOT / ".github/workflows/submission.yml").read_text())
    assert "'maintenance'" in workflow["jobs"]["verify"]["if"]
    assert "labeled" in workflow[True]["pull_request"]["types"]  # YAML reads `on` as a truth value
