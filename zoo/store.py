"""All weights on this machine (trained here, shipped, pulled from the Hub): list, pull, verify and import them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.zoo.hub import SCHEME, Address, check_unchanged, parse_address, pull, pulled, read_source, store_of
from mrsr_bench.zoo.inspection import inspect
from mrsr_bench.zoo.pins import Pin, digests, hub_pins, shipped_folders, shipped_pins
from mrsr_bench.zoo.weights import CONFIG, MODEL, home, sha256_of_file


def _folders() -> Iterator[tuple[str, str, Path]]:
    """(name, origin, folder) of every folder of weights on this machine, in the order of resolution."""
    for file in sorted((home() / "weights").glob(f"[!.]*--*/{MODEL}")):
        yield file.parent.name, "local", file.parent
    for name, folder in shipped_folders().items():
        yield name.partition("/")[2], "shipped", folder
    for folder in pulled():
        yield f"{SCHEME}{folder.parent.name.replace('--', '/')}@{folder.name}", "hub", folder


def list_weights() -> list[dict[str, Any]]:
    """Facts of all weights: those on this machine, and those that the zoo pins on the Hub and that are not here."""
    found = []
    here = set()
    for name, origin, folder in _folders():
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            facts = {"method": str(config["method"]), "task": str(config["protocol"])}
        except (OSError, ValueError, KeyError, TypeError):
            facts = {"method": f"unreadable {CONFIG}", "task": ""}
        size = round((folder / MODEL).stat().st_size / 1e6, 2)
        found.append({"name": name, **facts, "origin": origin, "MB": size, "sha256": sha256_of_file(folder / MODEL)})
        here.add(folder)
    for pin in hub_pins():
        if store_of(pin.repo) / pin.revision not in here:
            facts = {"method": pin.method, "task": ", ".join(pin.protocols)}
            name = str(Address(pin.repo, pin.revision))
            found.append({"name": name, **facts, "origin": "hub, not pulled", "MB": None, "sha256": pin.sha256})
    return found


def pull_weights(names: Sequence[str], *, everything: bool, notify: Callable[[str], None]) -> dict[str, Any]:
    """Pull addresses, the pinned weights of methods, or everything that the zoo pins; ``notify`` is told each name.

    Raises:
        UserError: nothing is named, or one of them cannot be pulled.
    """
    if bool(names) == everything:
        raise UserError("name what to pull (user/name, user/name@revision or a method), or say --all; not both")
    wanted: list[tuple[Address, str | None]] = []
    for name in names:
        if "/" in name or name.startswith(SCHEME):
            wanted.append((parse_address(name), None))
        else:
            wanted += [(Address(pin.repo, pin.revision), pin.sha256) for pin in _pins_of(name)]
    if everything:
        wanted = [(Address(pin.repo, pin.revision), pin.sha256) for pin in hub_pins()]
        if not wanted:
            notify("the zoo pins no weights on the Hub; all that it has ships with the package")
    found = []
    for address, sha256 in wanted:
        notify(f"pulling {address}")
        folder = pull(address, sha256=sha256)
        digest = sha256_of_file(folder / MODEL)
        found.append({"name": str(address), "revision": folder.name, "sha256": digest, "folder": str(folder)})
    return {"pulled": found}


def _pins_of(name: str) -> list[Pin]:
    from mrsr_bench.zoo.methods import methods

    spec = methods.get(name)
    members = spec.alias_for or (spec.name,)
    pins = [pin for pin in hub_pins() if pin.method in members]
    if not pins:
        raise UserError(f"the zoo pins no weights of {name} on the Hub; name a repository, as user/name")
    return pins


def verify_weights(names: Sequence[str], notify: Callable[[str], None]) -> list[dict[str, Any]]:
    """Check weights: pinned or recorded SHA-256, configuration, tensors, golden output. Each has a ``state``.

    ``names`` are folders, addresses that were pulled, methods or names from the list; none means all on this machine.

    Raises:
        UserError: a name fits nothing.
    """
    chosen = list(_folders())
    if names:
        chosen = [entry for name in names for entry in _named(name, chosen)]
    found = []
    for name, origin, folder in chosen:
        notify(f"verifying {name}")
        try:
            _check_digests(origin, folder)
            state = "ok"
            inspect(folder)
        except UserError as error:
            state = str(error)
        found.append({"name": name, "origin": origin, "sha256": sha256_of_file(folder / MODEL), "state": state})
    return found


def _named(name: str, known: Sequence[tuple[str, str, Path]]) -> list[tuple[str, str, Path]]:
    path = Path(name)
    if (path / MODEL).is_file():
        return [(name, "path", path)]
    address = f"{SCHEME}{name.removeprefix(SCHEME)}"
    found = [
        entry for entry in known if entry[0] in (name, address) or entry[0].startswith((f"{name}--", f"{address}@"))
    ]
    if not found:
        raise UserError(f"there are no weights called {name!r} here; `mrsr-bench weights list` shows what there is")
    return found


def _check_digests(origin: str, folder: Path) -> None:
    if origin == "hub":
        check_unchanged(folder)
        sha256 = {(pin.repo, pin.revision): pin.sha256 for pin in hub_pins()}
        source = read_source(folder)
        pinned = sha256.get((source["repo"], source["revision"]))
        if pinned not in (None, sha256_of_file(folder / MODEL)):
            raise UserError(f"{folder}: {MODEL} has another SHA-256 than the zoo pins; remove it and pull again")
    if origin == "shipped":
        pins: Mapping[str, str] = shipped_pins().get(f"{folder.parents[1].name}/{folder.name}", {})
        if digests(folder) != pins:
            raise UserError(f"{folder.name}: is not what this version was released with; install mrsr-bench again")


def import_weights(method: str, source: Path | None) -> dict[str, Any]:
    """Install weights that a paper's authors released, read from their own package or a file of it.

    Raises:
        UserError: no importer for that method, or the source is not what it should be.
    """
    if method != "soup_gan":
        raise UserError(f"there is no official release of {method} to import; the one there is is that of soup_gan")
    from mrsr_bench.zoo.methods.soup.official import install_official

    folder = install_official(source)
    return {"method": method, "folder": str(folder), "sha256": sha256_of_file(folder / MODEL)}
