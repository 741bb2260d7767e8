"""What the zoo vouches for: the SHA-256 of every file of weights it ships, and the revision of those on the Hub.

`pins.json` is plain data under version control. ``python -m mrsr_bench.zoo.pins`` writes the part about shipped files
again, which whoever changes them does in the same commit; entries of the Hub are added by hand after a publication.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mrsr_bench.zoo.weights import GOLDEN, MODEL, sha256_of_file

PINNED_FILES = (MODEL, GOLDEN)


@dataclass(frozen=True)
class Pin:
    """Weights on the Hub: a method's, for the tasks of some protocols, at a commit, with the SHA-256 of the tensors."""

    method: str
    protocols: tuple[str, ...]
    repo: str
    revision: str
    sha256: str

    def serves(self, task: Mapping[str, Any] | None) -> bool:
        """Whether they were trained for a task (a protocol's ``task`` entry; None: any)."""
        from mrsr_bench.benchmarks.protocol import get_protocol

        return task is None or any(get_protocol(name).content["task"] == task for name in self.protocols)


def package_root() -> Path:
    """The folder of this package."""
    return Path(str(files("mrsr_bench")))


def _table() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((package_root() / "zoo/pins.json").read_text(encoding="utf-8"))
    return content


def hub_pins() -> list[Pin]:
    """Weights that the zoo lists and the Hub holds."""
    return [Pin(**{**entry, "protocols": tuple(entry["protocols"])}) for entry in _table()["hub"]]


def shipped_pins() -> dict[str, dict[str, str]]:
    """SHA-256 by file name of every shipped folder, by ``{method's folder}/{name of the weights' folder}``."""
    pins: dict[str, dict[str, str]] = _table()["shipped"]
    return pins


def shipped_digests() -> set[str]:
    """SHA-256 of the tensors of all weights that ship."""
    return {folder[MODEL] for folder in shipped_pins().values()}


def shipped_folders() -> dict[str, Path]:
    """Every folder of weights in the package, by the same names."""
    found = sorted((package_root() / "zoo/methods").glob(f"*/weights/*/{MODEL}"))
    return {f"{file.parents[2].name}/{file.parent.name}": file.parent for file in found}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a folder that are pinned."""
    return {name: sha256_of_file(folder / name) for name in PINNED_FILES if (folder / name).is_file()}


def write_shipped_pins() -> Path:
    """Write the pins of the shipped files as they are now."""
    from mrsr_bench.benchmarks.results import write_text

    path = package_root() / "zoo/pins.json"
    table = {**_table(), "shipped": {name: digests(folder) for name, folder in shipped_folders().items()}}
    write_text(path, json.dumps(table, indent=2, sort_keys=True) + "\n")
    return path


if __name__ == "__main__":
    print(write_shipped_pins())
