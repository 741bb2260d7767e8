"""The example package: installed as a stranger's would be, it is trained, run, submitted, re-run and on the board."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mrsr_bench

ROOT = Path(mrsr_bench.__file__).parent
EXAMPLE = ROOT / "examples/residual3d"

JOURNEY = """
import sys
from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset
from mrsr_bench.cli import main
from mrsr_bench.zoo.training import train_method

def run(*words):
    try:
        main(words)
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)

dataset = PhantomDataset("phantom_tiny", spacing=5.0, shape=(32, 32, 24), train=1, val=1, test=1)
train_method("residual3d", dataset, recipe="smoke", task="thick-4", device="cpu")
run("run", "--model", "residual3d", "--protocol", "thick-4", "--dataset", "phantom_hidden-" + "0" * 16,
    "--split", "test", "--subjects", "1", "--no-figures", "--device", "cpu")
(stored,) = __import__("pathlib").Path("runs").glob("thick-4*residual3d*")
run("submit", str(stored), "-o", "submission.json", "--contact", "author@example.org",
    "--source", "https://example.org/residual3d")
run("verify", "submission.json", "--rerun", "--accept", "accepted", "--results", "board")
run("leaderboard", "build", "--results", "accepted", "--out", "site", "--pictures", "none")
"""


def environment(site: Path, home: Path) -> dict[str, str]:
    chosen = {key: value for key, value in os.environ.items() if not key.startswith("MRSR_BENCH")}
    chosen |= {"PYTHONPATH": str(site), "MRSR_BENCH_HOME": str(home), "MRSR_BENCH_OFFLINE": "1"}
    return chosen | {"OMP_NUM_THREADS": "1"}


def python(code: list[str], folder: Path, chosen: dict[str, str], seconds: int = 1800) -> str:
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, env=chosen, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Where pip installed the example."""
    for tool in ("pip", "setuptools"):
        if importlib.util.find_spec(tool) is None:
            pytest.skip(f"{tool} is not in this environment, and nothing is downloaded")
    place = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, place / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = ["-m", "pip", "install", *options, "--target", str(place / "site"), str(place / "source")]
    python(command, place, dict(os.environ))
    return place / "site"


def test_the_entry_point_is_all_that_is_needed(site, tmp_path):
    shown = json.loads(
        python(["-m", "mrsr_bench", "show", "residual3d", "--json"], tmp_path, environment(site, tmp_path))
    )
    assert shown["name"] == "residual3d"
    listing = "import sys; from mrsr_bench.zoo.methods import methods; print(*methods.names()); print(*sys.modules)"
    names, modules = python(["-c", listing], tmp_path, environment(site, tmp_path)).splitlines()
    assert "residual3d" in names.split()
    assert "torch" not in modules.split()


def test_its_own_tests_pass(site, tmp_path):
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(EXAMPLE / "tests")]
    assert " passed" in python(command, tmp_path, environment(site, tmp_path))


def test_it_is_trained_run_submitted_run_again_with_the_same_scores_and_on_the_board(site, tmp_path):
    (tmp_path / "board").mkdir()
    python(["-c", JOURNEY], tmp_path, environment(site, tmp_path / "home"))
    (file,) = (tmp_path / "accepted").iterdir()
    kept = json.loads(file.read_text())
    assert file.name == f"thick-4--residual3d--{kept['digest'][:8]}.json"
    assert kept["badge"] == "re-run"
    assert kept["source"]["package"] == "mrsr-bench-residual3d"
    assert kept["source"]["repository"] == "https://example.org/residual3d"
    assert kept["training"]["train_subjects"] == ["phantom-000"]
    assert kept["verification"]["compared"] > 0
    assert kept["verification"]["largest_psnr_db"] <= 0.01
    (task,) = (tmp_path / "site/tasks").iterdir()
    (method,) = (tmp_path / "site/methods").iterdir()
    assert re.search(rf'<a href="../methods/{method.name}#{kept["digest"][:8]}">residual3d</a>', task.read_text())
    assert re.search(r'<span class="badge rerun"[^>]*>re-run</span>', task.read_text())
    assert "with the package mrsr-bench-residual3d installed" in method.read_text()
