"""`mrsr-bench new-method`: a method that trains and passes the contract suite, to be filled with one's own network.

Without ``package`` it becomes a folder of ``zoo/methods`` in a checkout, with its line in the contract suite and in the
list of packages. With it, a package of its own that joins through the entry point ``mrsr_bench.methods``.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.results import write_text
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.methods import methods

CONTRACTS = "tests/zoo/test_contract.py"
SMALL, RADIUS = '{"features": 8, "blocks": 1}', 3
"""Of the contract suite's little one: its arguments and the radius of its receptive field."""
PLACEHOLDERS = {
    "summary": "one line for the tables: a plain residual network on the regridded volume",
    "paper": "Authors Year, arXiv or DOI",
    "deviations": "say where you deviate from the paper",
}
"""What the skeleton's method.py says until its author says it."""
_NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")
_METHOD = {
    "__init__.py": "init.py",
    "method.py": "method.py",
    "network.py": "network.py",
    "recipes/quick.yaml": "quick.yaml",
    "CARD.md": "CARD.md",
}


def new_method(name: str, *, package: Path | None = None, root: Path | None = None) -> dict[str, Any]:
    """Write the skeleton of ``name``; says what was written and what comes next.

    ``root``: the checkout; default the one this package lies in.

    Raises:
        UserError: the name is impossible or taken, the place is not empty, or there is no checkout.
    """
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise UserError(f"{name!r} cannot name a method; expected 2 to 40 of a-z, 0-9 and _, a letter first")
    if name in methods.names():
        raise UserError(f"there is a method called {name} already; choose another name")
    if package is not None:
        return _package(name, package)
    return _folder(name, root or Path(str(files("mrsr_bench"))))


def refuse_unfilled(spec: MethodSpec) -> None:
    """Refuse a method whose words are the skeleton's still: nobody else should read them.

    Raises:
        UserError: its summary, paper or deviations are placeholders.
    """
    said = {"summary": (spec.summary,), "paper": (spec.paper,), "deviations": spec.deviations}
    left = [entry for entry, text in PLACEHOLDERS.items() if text in said[entry]]
    if left:
        raise UserError(f"{spec.name}: {' and '.join(left)} in its method.py are still the skeleton's; say what is so")


def _written(template: str, words: Mapping[str, str]) -> str:
    text = files("mrsr_bench.zoo").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _words(name: str, module: str) -> dict[str, str]:
    return {
        "name": name,
        "module": module,
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "distribution": f"mrsr-bench-{name.replace('_', '-')}",
    }


def _place(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Write files into a new folder, all or none; returns their paths."""
    whole = folder.resolve()  # "." has no name
    partial = whole.with_name(f".{whole.name}.{os.getpid()}.partial")
    try:
        for name, text in texts.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_text(text, encoding="utf-8")
        if folder.is_dir():  # an empty one, in which a shell may stand: it stays
            for path in sorted(partial.iterdir()):
                path.rename(folder / path.name)
        else:
            partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose an empty or a new folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [str(folder / name) for name in texts]


def _folder(name: str, root: Path) -> dict[str, Any]:
    pyproject, suite, folder = root / "pyproject.toml", root / CONTRACTS, root / "zoo/methods" / name
    if not pyproject.is_file() or not suite.is_file():
        raise UserError(
            "this mrsr-bench is installed and no checkout, so it has no zoo to write to; add --package FOLDER, "
            "or work in a clone that is installed with --editable"
        )
    if folder.exists():
        raise UserError(f"{folder}: exists already; choose another name")
    packages = _listed(pyproject.read_text(encoding="utf-8"), name)
    contracts = _with_contract(suite.read_text(encoding="utf-8"), name)
    words = _words(name, f"mrsr_bench.zoo.methods.{name}") | {"folder": f'\n        folder="{name}",'}
    written = _place(folder, {path: _written(template, words) for path, template in _METHOD.items()})
    write_text(pyproject, packages)
    write_text(suite, contracts)
    return {
        "written": written,
        "changed": [str(pyproject), str(suite)],
        "next": [
            f"put your network into {folder / 'network.py'} and its facts into {folder / 'method.py'}",
            f"python -m pytest {CONTRACTS} -k {name}",
            f"mrsr-bench train --model {name} --dataset phantom_2mm --steps 20",
        ],
    }


def _listed(text: str, name: str) -> str:
    """``pyproject.toml`` with the method's package in its place of the list."""
    lines = text.splitlines(keepends=True)
    line = f'    "mrsr_bench.zoo.methods.{name}",\n'
    places = [i for i, old in enumerate(lines) if old.startswith('    "mrsr_bench.zoo.methods')]
    if not places or line in lines:
        raise UserError("pyproject.toml: its list of packages is not as expected; add the package by hand")
    at = next((i for i in places if lines[i] > line), places[-1] + 1)
    return "".join([*lines[:at], line, *lines[at:]])


def _with_contract(text: str, name: str) -> str:
    """The contract suite with the method's line as the last one."""
    start = text.find("\nCONTRACTS = {")
    end = text.find("\n    )\n}", start)
    if start < 0 or end < 0:
        raise UserError(f"{CONTRACTS}: its CONTRACTS are not as expected; add the line by hand")
    return f'{text[:end]}\n        Contract("{name}", {SMALL}, {RADIUS}),{text[end:]}'


def _package(name: str, place: Path) -> dict[str, Any]:
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{place}: is not empty; name a folder that is new")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"there is a Python package called {name} already; choose another name")
    words = _words(name, name) | {"folder": ""}
    texts = {f"{name}/{path}": _written(template, words) for path, template in _METHOD.items()}
    texts[f"{name}/method.py"] += "METHOD = METHODS[0]\n"
    texts |= {path: _written(path, words) for path in ("pyproject.toml", "README.md")}
    texts[f"tests/test_{name}.py"] = _written("test_method.py", words)
    return {
        "written": _place(place, texts),
        "next": [
            f"pip install --editable {place}",
            f"python -m pytest {place / 'tests'}",
            f"mrsr-bench train --model {name} --dataset phantom_2mm --steps 20",
        ],
    }
