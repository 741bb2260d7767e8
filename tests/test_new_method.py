"""`mrsr-bench new-method`: what it writes passes the contract suite as it is, in the zoo and as a package."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import mrsr_bench
from mrsr_bench import UserError
from mrsr_bench.cli import main
from mrsr_bench.zoo.skeleton import CONTRACTS, new_method, refuse_unfilled

ROOT = Path(mrsr_bench.__file__).parent

JOINED = """
import pathlib
import mrsr_bench.zoo.methods
mrsr_bench.zoo.methods.__path__.append(str(pathlib.Path(__file__).parent / "zoo/methods"))
"""
"""Makes a folder beside the zoo's a part of it, as if it lay there."""


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The parts of a checkout that a new method changes."""
    place = tmp_path / "checkout"
    (place / "zoo/methods").mkdir(parents=True)
    (place / CONTRACTS).parent.mkdir(parents=True)
    for name in ("pyproject.toml", CONTRACTS):
        shutil.copyfile(ROOT / name, place / name)
    (place / "conftest.py").write_text(JOINED)
    return place


def pytest_in(folder: Path, *words: str, path: str = "") -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", "."]
    command += ["--import-mode=importlib", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout.splitlines()[-1]


def test_a_new_folder_of_the_zoo_passes_the_contract_suite(checkout):
    new_method("fresh_net", root=checkout)
    said = pytest_in(checkout, CONTRACTS, "-k", "fresh_net or has_its_line")
    assert int(said.split(" passed")[0].split()[-1]) >= 10
    assert "skipped" not in said


def test_a_new_package_passes_its_own_tests(tmp_path):
    place = tmp_path / "package"
    new_method("fresh_net", package=place)
    project = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    (name, target), *_ = project["entry-points"]["mrsr_bench.methods"].items()
    facts = place / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (facts / "entry_points.txt").write_text(f"[mrsr_bench.methods]\n{name} = {target}\n")
    assert "4 passed" in pytest_in(place, "tests", path=str(place))


def test_a_skeleton_is_not_for_others_to_read(tmp_path, monkeypatch):
    place = tmp_path / "package"
    new_method("raw_net", package=place)
    monkeypatch.syspath_prepend(place)
    spec = importlib.import_module("raw_net.method").METHOD
    with pytest.raises(UserError, match=r"raw_net: summary and paper and deviations in its method.py"):
        refuse_unfilled(spec)
    with pytest.raises(UserError, match=r"raw_net: deviations in its"):
        refuse_unfilled(replace(spec, summary="a network", paper="Somebody 2026"))
    refuse_unfilled(replace(spec, summary="a network", paper="Somebody 2026", deviations=()))


def test_the_lists_get_one_line_each(checkout):
    new_method("fresh_net", root=checkout)
    for name in ("pyproject.toml", CONTRACTS):
        before, after = ((folder / name).read_text().splitlines() for folder in (ROOT, checkout))
        added = [line for line in after if line not in before]
        assert len(added) == 1
        assert "fresh_net" in added[0]
        assert [line for line in after if line not in added] == before
    packages = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert "mrsr_bench.zoo.methods.fresh_net" in packages


@pytest.mark.parametrize(
    "name", ["", "A", "2d", "a-b", "../up", "class", "x" * 41, "mdcsrn_b4u4", "cubic", "a b", "é_net"]
)
def test_an_impossible_or_taken_name_is_refused(checkout, name):
    with pytest.raises(UserError) as refused:
        new_method(name, root=checkout)
    assert "\n" not in str(refused.value)
    assert list((checkout / "zoo/methods").iterdir()) == []


def test_a_package_does_not_take_the_name_of_another(tmp_path):
    with pytest.raises(UserError, match="a Python package called torch"):
        new_method("torch", package=tmp_path / "new")


def test_a_place_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        new_method("fresh_net", package=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_that_one_stands_in_is_filled(tmp_path, monkeypatch):
    place = tmp_path / "mine"
    place.mkdir()
    monkeypatch.chdir(place)
    new_method("fresh_net", package=Path())
    assert Path("pyproject.toml").is_file()
    assert Path("fresh_net/recipes/quick.yaml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_package_below_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        new_method("fresh_net", package=tmp_path / "file/new")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_installed_copy_has_no_zoo_to_write_to(tmp_path):
    with pytest.raises(UserError, match="--package FOLDER"):
        new_method("fresh_net", root=tmp_path)


@pytest.mark.parametrize("name", ["pyproject.toml", CONTRACTS])
def test_a_list_of_another_shape_is_left_alone(checkout, name):
    (checkout / name).write_text("# nothing\n")
    with pytest.raises(UserError, match="by hand"):
        new_method("fresh_net", root=checkout)
    assert (checkout / name).read_text() == "# nothing\n"
    assert list((checkout / "zoo/methods").iterdir()) == []


def test_the_command_says_what_comes_next(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["new-method", "fresh_net", "--package", str(tmp_path / "new"), "--json"])
    assert stopped.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert all(Path(file).is_file() for file in said["written"])
    assert "pip install" in said["next"][0]
