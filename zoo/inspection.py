"""Weights from somewhere else, looked at before they are believed: the file names, the configuration, the tensors.

Nothing here runs code that came with the weights. A configuration names a method that this installation knows; what
the method does is in its own package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.zoo.weights import CARD, CONFIG, CURVE, GOLDEN, LOG, MODEL, PICKLES

if TYPE_CHECKING:
    from mrsr_bench.zoo.method import MethodSpec
    from mrsr_bench.zoo.weights import Weights

MIB = 1024 * 1024
LARGEST = {MODEL: 1024 * MIB, CONFIG: 4 * MIB, GOLDEN: 64 * MIB, LOG: 64 * MIB, CURVE: 16 * MIB, CARD: 4 * MIB}
"""Bytes that a file of a folder of weights may have."""
LARGEST_PICTURE = 16 * MIB
_WORDS = {"recipe": ("summary", "deviations"), "trained": ("terms",)}
REQUIRED = (MODEL, CONFIG, GOLDEN)
CODE = (".py", ".pyc", ".so", ".dll", ".pyd", ".sh", ".bat", ".exe", ".ipynb", ".js", ".jar", ".whl")
_REMOTE_CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "architectures", "_class_name")


def is_picture(name: str) -> bool:
    """Whether a file of that name is a picture of a failure case, as `zoo.cards` writes them."""
    stem = name.removeprefix("failure--").removesuffix(".png")
    return name == f"failure--{stem}.png" and 0 < len(stem) <= 100 and all(c.isalnum() or c in "-_." for c in stem)


def largest(name: str) -> int | None:
    """Bytes that the file may have; None for a file that does not belong to a folder of weights."""
    return LARGEST_PICTURE if is_picture(name) else LARGEST.get(name)


def check_names(names: Sequence[str], source: str) -> None:
    """Refuse a listing that holds paths out of its folder, pickles or code, or that lacks what is needed.

    Raises:
        UserError: so it is; nothing of it should be fetched.
    """
    for name in names:
        parts = PureWindowsPath(name).parts
        if not name.isprintable() or "\\" in name or ":" in name or name.startswith("/") or ".." in parts:
            raise UserError(f"{source}: lists a file called {name!r}, which is no plain path; nothing was fetched")
        suffix = PurePosixPath(name.lower()).suffix
        if suffix in PICKLES:
            raise UserError(
                f"{source}: holds {name}; such a file can run any code when it is read, so nothing was fetched; "
                "ask its author for .safetensors alone"
            )
        if suffix in CODE:
            raise UserError(
                f"{source}: holds code ({name}), and mrsr-bench never runs code that comes with weights; nothing was "
                "fetched; a method comes as a package with the entry point mrsr_bench.methods"
            )
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        raise UserError(f"{source}: holds no {missing[0]}; expected weights published by `mrsr-bench publish`")


def check_size(name: str, size: object, source: str) -> int:
    """The size in bytes, where it is one that the file may have.

    Raises:
        UserError: it is unknown or too large.
    """
    limit = largest(name)
    if not isinstance(size, int) or size < 0:
        raise UserError(f"{source}: does not say how large {name} is; nothing was fetched")
    if limit is not None and size > limit:
        raise UserError(f"{source}: {name} has {size / MIB:,.0f} MiB; at most {limit // MIB} MiB are read")
    return size


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def read_config(file: Path, source: str) -> dict[str, Any]:
    """A configuration of weights: strict JSON, of a method that is known here.

    Raises:
        UserError: it is not; the first reason is named.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{source}: {CONFIG} is not readable JSON ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{source}: {CONFIG} holds no object; expected the configuration of weights")
    foreign = [key for key in _REMOTE_CODE if key in content]
    if foreign:
        raise UserError(
            f"{source}: {CONFIG} asks for code or classes of its own ({foreign[0]}), which mrsr-bench never loads; "
            "expected weights published by `mrsr-bench publish`"
        )
    method_of(content, source)
    return content


def method_of(config: Mapping[str, Any], source: str) -> MethodSpec:
    """The method that a configuration names.

    Raises:
        UserError: there is none such here, it takes no weights, or it is another version of it.
    """
    from mrsr_bench.zoo.methods import methods

    name = config.get("method")
    if not isinstance(name, str):
        raise UserError(f"{source}: {CONFIG} names no method; expected weights published by `mrsr-bench publish`")
    try:
        spec = methods.get(name)
    except UserError as error:
        raise UserError(
            f"{source}: is of the method {name!r}, which is unknown here; update mrsr-bench, or install the package "
            "that brings it"
        ) from error
    if spec.kind != "network" or spec.alias_for:
        raise UserError(f"{source}: claims to be of {name}, which has no weights of its own")
    version = config.get("method_version", spec.version)
    if version != spec.version:
        raise UserError(
            f"{source}: is of version {version} of {name}; this installation has version {spec.version}; "
            "use the mrsr-bench that it was made with, or other weights"
        )
    return spec


def inspect(folder: Path, source: str | None = None) -> Weights:
    """The weights in ``folder``, after every check: configuration, tensors, golden output.

    Raises:
        UserError: the first that does not hold.
    """
    from safetensors import SafetensorError

    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.weights import find_weights, load_into, verify_golden

    source = source or folder.name
    check_names([path.name for path in folder.iterdir() if not path.name.startswith(".")], source)
    for name in REQUIRED:
        check_size(name, (folder / name).stat().st_size, source)
    config = read_config(folder / CONFIG, source)
    spec = method_of(config, source)
    weights = find_weights(spec, None, folder / MODEL)
    assert weights is not None
    compare(config, folder / MODEL, source)
    if spec.parameters is not None and (folder / MODEL).stat().st_size < spec.parameters:
        raise UserError(f"{source}: {MODEL} is too small to hold the {spec.parameters:,} parameters of {spec.name}")
    try:
        network = build_network(spec, weights.config["network"])
        load_into(network, weights)
        verify_golden(network, weights)
    except (SafetensorError, RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(f"{source}: cannot be run ({type(error).__name__}: {_first_line(error)})") from error
    return weights


def compare(config: Mapping[str, Any], file: Path, source: str) -> None:
    """What is in the tensors' file decides, and its SHA-256 covers it: ``config.json`` must not say otherwise.

    The words of a card (`_WORDS`) decide nothing, and may be corrected in ``config.json`` after the training.

    Raises:
        UserError: it says otherwise.
    """
    from safetensors import safe_open

    with safe_open(str(file), framework="numpy") as opened:
        stored = json.loads(opened.metadata()["mrsr_bench"])
    lies = [key for key in stored if _without_words(key, config.get(key)) != _without_words(key, stored[key])]
    if lies:
        raise UserError(f"{source}: {CONFIG} and {MODEL} say different things of {lies[0]}; one was altered")


def _without_words(key: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {name: entry for name, entry in value.items() if name not in _WORDS.get(key, ())}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
