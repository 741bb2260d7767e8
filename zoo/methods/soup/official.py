"""Import the SOUP-GAN authors' released weights into the local store as ``soup_gan_official``.

They come in the package KevinSR (0.1.20, BSD-3-Clause) as a TensorFlow SavedModel, "Thin-to-thin"; its variables are
read without TensorFlow. This repository does not carry them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.weights import CONFIG, GOLDEN, METADATA_KEY, MODEL, golden_tensors, installed_folder

if TYPE_CHECKING:
    import torch

METHOD, GROUP = "soup_gan_official", "thin"
PACKAGE, RELEASE = "KevinSR", "0.1.20"
SAVED_MODEL = "Thin-to-thin"
INDEX, SHARD = "variables/variables.index", "variables/variables.data-00000-of-00001"
RELEASED = "876846a2f01ada613fd74e6f058f5bd455f6f31094fac5c105e18f5dacb91ab0"
"""SHA-256 over the release's tensors, by name (see `_digest`)."""
_SCALES = (2, 3, 4, 5, 6)
_BACKBONE = 13
_LARGEST = 64 * 2**20
"""Bytes: no file of the release comes near it, so that a hostile archive cannot fill the memory."""
_ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar", ".zip", ".whl")
_GET = f"get it with `pip download --no-deps {PACKAGE}=={RELEASE}` and name the file"


@dataclass(frozen=True)
class Official:
    """The released weights: tensors under our names, kernels (out, in, z, x, y), and where they came from."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, str]


def layer_names() -> tuple[str, ...]:
    """What each layer with weights of the release is called here, in the release's order."""
    return (
        *(f"pre.{s}.{i}" for i in range(3) for s in _SCALES),
        *(f"backbone.{i}" for i in range(_BACKBONE)),
        *(f"post.{s}.{i}" for i in range(2) for s in _SCALES),
    )


def import_official(source: Path | None) -> Official:
    """Read the released weights from ``source``, or from the installed package where it is None.

    ``source`` is the package's archive (sdist or wheel), a folder that holds the SavedModel "Thin-to-thin", or a
    safetensors file with keys ``pre.{s}.{0,1,2}``, ``backbone.{0..12}``, ``post.{s}.{0,1}``.

    Raises:
        UserError: there is nothing there, or it is damaged or something else.
    """
    if source is None:
        source = _installed()
    if not source.exists():
        raise UserError(f"{source}: no such file or folder; expected the package {PACKAGE} {RELEASE}: {_GET}")
    name = source.name
    try:
        if source.is_dir():
            tensors = _from_savedmodel(_folder_reader(source), name)
        elif name.endswith(".safetensors"):
            tensors = _from_safetensors(source)
        elif name.lower().endswith((".zip", ".whl")):
            with zipfile.ZipFile(source) as archive:
                tensors = _from_savedmodel(_zip_reader(archive), name)
        elif name.lower().endswith(_ARCHIVES):
            with tarfile.open(source) as archive:
                tensors = _from_savedmodel(_tar_reader(archive), name)
        else:
            raise UserError(
                f"{name}: expected the archive of {PACKAGE} {RELEASE} ({', '.join(_ARCHIVES)}), a folder with its "
                f"{SAVED_MODEL}, or a .safetensors file; {_GET}"
            )
    except (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        NotImplementedError,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as error:
        raise UserError(f"{name}: cannot be read ({error or type(error).__name__}); {_GET}") from error
    _check(tensors, name)
    same = _digest(tensors) == RELEASED
    facts = {"file": name, "release": f"{PACKAGE} {RELEASE}" if same else f"unknown, not {PACKAGE} {RELEASE}"}
    if source.is_file():
        facts["file_sha256"] = hashlib.sha256(source.read_bytes()).hexdigest()
    return Official(tensors, facts)


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and little-endian float32 values, names in order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + b"\0" + tensors[name].contiguous().numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def _installed() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    if not places:
        raise UserError(f"the package {PACKAGE} is not installed here; {_GET}")
    return Path(places[0])


Reader = Callable[[str], bytes]


def _limited(stream: IO[bytes]) -> bytes:
    content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise UserError(f"a file of the archive is larger than {_LARGEST >> 20} MB; this is not {PACKAGE} {RELEASE}")
    return content


def _only(names: Iterator[str], ending: str) -> str:
    """The one name that is ``Thin-to-thin/ending``, at any depth."""
    found = [name for name in names if f"/{name}".endswith(f"/{SAVED_MODEL}/{ending}")]
    if len(found) != 1:
        raise UserError(
            f"expected one {SAVED_MODEL}/{ending} of {PACKAGE} {RELEASE} and found {len(found) or 'none'}; {_GET}"
        )
    return found[0]


def _folder_reader(folder: Path) -> Reader:
    def read(ending: str) -> bytes:
        path = folder / ending
        if not path.is_file():
            files = {str(p.relative_to(folder.parent)): p for p in folder.rglob(Path(ending).name)}
            path = files[_only((Path(name).as_posix() for name in files), ending)]
        with path.open("rb") as stream:
            return _limited(stream)

    return read


def _zip_reader(archive: zipfile.ZipFile) -> Reader:
    def read(ending: str) -> bytes:
        with archive.open(_only(iter(archive.namelist()), ending)) as stream:
            return _limited(stream)

    return read


def _tar_reader(archive: tarfile.TarFile) -> Reader:
    def read(ending: str) -> bytes:
        name = _only((member.name for member in archive if member.isfile()), ending)
        stream = archive.extractfile(name)
        return _limited(stream if stream is not None else io.BytesIO())

    return read


def _from_savedmodel(read: Reader, source: str) -> dict[str, torch.Tensor]:
    import numpy as np
    import torch

    from mrsr_bench.zoo.methods.soup.tensor_bundle import read_bundle

    arrays = read_bundle(read(INDEX), read(SHARD), source, lambda name: name.startswith("layer_with_weights-"))
    tensors = {}
    for number, layer in enumerate(layer_names()):
        for theirs, ours in (("kernel", "weight"), ("bias", "bias")):
            array = arrays.get(f"layer_with_weights-{number}/{theirs}/.ATTRIBUTES/VARIABLE_VALUE")
            if array is None:
                raise UserError(f"{source}: the {theirs} of layer {number} is missing; this is not {PACKAGE} {RELEASE}")
            if array.ndim == 5:
                array = array.transpose(4, 3, 0, 1, 2)
            tensors[f"{layer}.{ours}"] = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    return tensors


def _from_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, torch.Tensor] = load_file(str(path))
    except SafetensorError as error:
        raise UserError(f"{path.name}: is not a readable safetensors file ({error})") from error
    return {name: tensor.float() for name, tensor in found.items()}


def _check(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    import torch

    from mrsr_bench.zoo.inference import build_network

    wanted = build_network(methods.get(METHOD)).state_dict()
    wrong = sorted(set(wanted) ^ set(tensors)) or [k for k in wanted if tensors[k].shape != wanted[k].shape]
    if wrong:
        raise UserError(
            f"{source}: the tensor {wrong[0]} is missing, unknown or of another shape than in {PACKAGE} {RELEASE} "
            f"({len(wrong)} such); these are not the released weights"
        )
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{source}: the tensor {name} holds NaN or infinite values; {_GET}")


def install_official(source: Path | None) -> Path:
    """Put the released weights into the local store, for thin slices at every factor; returns their folder.

    They stay in float32 and have golden tensors and a card like any others. What lay there before is replaced.

    Raises:
        UserError: see `import_official`; or the store cannot be written.
    """
    official = import_official(source)
    target = installed_folder(methods.get(METHOD), GROUP)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(official, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise UserError(
            f"{target.parent}: cannot be written ({error.strerror}); free it or set MRSR_BENCH_HOME"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write(official: Official, folder: Path) -> None:
    from safetensors.torch import save_file

    from mrsr_bench import __version__
    from mrsr_bench.benchmarks.protocol import get_protocol
    from mrsr_bench.zoo.cards import write_card
    from mrsr_bench.zoo.inference import build_network

    spec = methods.get(METHOD)
    protocols = [get_protocol(name) for name in spec.groups[GROUP]]
    tasks = [protocol.content["task"] for protocol in protocols]
    config = {
        "method": spec.name,
        "method_version": spec.version,
        "mrsr_bench": __version__,
        "protocol": GROUP,
        "task": tasks[0],
        "tasks": tasks,
        "network": {},
        "regrid": spec.regrid,
        "normalisation": "lr-p99.9-above-mean, then minimum to maximum to 0..10000 in the network",
        "tiling": {"window": spec.tiling.window, "margin": spec.tiling.margin, "batch_norm": spec.tiling.batch_norm},
        "parameters": spec.parameters,
        "imported": official.facts,
        "trained": {
            "terms": f"trained by the authors (Zhang et al. 2022); {official.facts['release']}, "
            "BSD-3-Clause, imported by the user"
        },
    }
    network = build_network(spec)
    network.load_state_dict(official.tensors)
    metadata = {METADATA_KEY: json.dumps(config, sort_keys=True)}
    save_file(official.tensors, str(folder / MODEL), metadata=metadata)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(golden_tensors(spec, network, max(protocols[0].factor)), str(folder / GOLDEN))
    write_card(spec, config, folder)
