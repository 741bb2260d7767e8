"""The wheel holds what the repository holds: packages are listed by hand, and none may be forgotten."""

import fnmatch
import re
import tomllib
from pathlib import Path

import mrsr_bench

ROOT = Path(mrsr_bench.__file__).parent
NOT_PACKAGES = {"tests", "build", "dist"}


def listed() -> set[str]:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return set(pyproject["tool"]["setuptools"]["packages"])


def on_disk() -> set[str]:
    found = {"mrsr_bench"}
    pending = [folder for folder in ROOT.iterdir() if folder.name not in NOT_PACKAGES]
    while pending:
        folder = pending.pop()
        if folder.is_symlink() or folder.name.startswith((".", "_")) or not (folder / "__init__.py").is_file():
            continue
        found.add(".".join(("mrsr_bench", *folder.relative_to(ROOT).parts)))
        pending += list(folder.iterdir())
    return found


def test_listed_packages_are_the_packages_on_disk():
    assert listed() == on_disk()


def test_only_the_five_modules_of_the_design_lie_at_the_root():
    modules = {path.name for path in ROOT.glob("*.py")}
    assert modules == {"__init__.py", "__main__.py", "cli.py", "volume.py", "registry.py"}


def test_every_module_lies_in_a_package():
    strays = [
        path.relative_to(ROOT)
        for package in ("zoo", "benchmarks", "leaderboards")
        for path in (ROOT / package).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    ]
    assert strays == []


def test_recipes_and_weights_of_every_method_are_in_the_wheel():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    files = [
        path.relative_to(folder).as_posix()
        for folder in (ROOT / "zoo/methods").iterdir()
        for path in folder.rglob("*")
        if path.is_file()
    ]
    wanted = [name for name in files if name.startswith(("recipes/", "weights/"))]
    assert wanted
    for name in wanted:
        assert any(fnmatch.fnmatch(name, pattern) for pattern in data["*"]), name


def test_no_page_names_a_place_on_a_machine():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("zoo/methods/*/weights/*/README.md")]
    assert len(pages) > 10
    places = re.compile(r"(?<![\w.~])/(?:home|root|tmp|work|mnt|Users|var)/")
    assert not [page.name for page in pages if places.search(page.read_text(encoding="utf-8"))]
