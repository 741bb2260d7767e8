"""The parameters of HighRes3DNet: where they are, how they are fetched, and that they are the right ones.

They are those of Li et al. 2017 (trained on GIF parcellations of ADNI), ported by Pérez-García and published with the
port under the MIT licence. Its home holds a pickle; it is checked against its SHA-256 before it is opened, opened
without any code in it being run, and kept as safetensors.
"""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mrsr_bench import UserError

if TYPE_CHECKING:
    import torch

    from mrsr_bench.benchmarks.segmentation.network import HighRes3DNet

FILE = "highres3dnet_gif160.safetensors"
HOME = "https://github.com/fepegar/highresnet/raw/master/highres3dnet_li_parameters-7d297872.pth"
HOME_SHA256 = "7d297872"
"""How the SHA-256 of the file at `HOME` begins: its publisher put it into the name."""
CONTENT_SHA256 = "9e1a0e5fb20e8b212e2a36a647d8ca11bac4ff9c336df2c90fe454c425d32aea"
"""Of the tensors' names and float32 values, in the order of the names, whatever file holds them."""
VARIABLE = "MRSR_BENCH_SEGMENTATION_WEIGHTS"
TIMEOUT = 20.0
"""Seconds without an answer before a download is given up."""


def parameter_file(path: str | Path | None = None, *, fetch: bool = True) -> Path:
    """The file of parameters: ``path``, else what ``MRSR_BENCH_SEGMENTATION_WEIGHTS`` names, else the one in
    ``MRSR_BENCH_HOME/segmentation``, else fetched from its home.

    Raises:
        UserError: it is nowhere, and downloads are off, failed or gave another file.
    """
    from mrsr_bench.benchmarks.metrics.no_reference import offline_by
    from mrsr_bench.zoo.weights import home

    path = path or os.environ.get(VARIABLE)
    if path:
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file of segmentation parameters")
        return Path(path)
    stored = home() / "segmentation" / FILE
    if stored.is_file():
        return stored
    where = f"put {FILE} into $MRSR_BENCH_HOME/segmentation or let ${VARIABLE} name it"
    if offline := offline_by():
        raise UserError(f"the parameters of HighRes3DNet are not here and {offline} forbids downloads; {where}")
    if not fetch:
        raise UserError(f"the parameters of HighRes3DNet are not here; they are fetched at first use, or {where}")
    try:
        return _fetched(stored)
    except UserError:
        raise
    except Exception as error:  # pooch passes on whatever its transport raises
        raise UserError(
            f"the parameters of HighRes3DNet are not here and their download failed ({type(error).__name__}); {where}"
        ) from error


def _fetched(target: Path) -> Path:
    import pooch
    import torch
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    name = f".{FILE}.{os.getpid()}.pth"
    raw = Path(
        pooch.retrieve(
            HOME,
            known_hash=None,
            fname=name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False),
        )
    )
    partial = target.with_name(f".{FILE}.{os.getpid()}")
    try:
        if not hashlib.sha256(raw.read_bytes()).hexdigest().startswith(HOME_SHA256):
            raise UserError(f"{HOME} gave another file than the one expected; nothing of it is used")
        tensors = torch.load(raw, weights_only=True, map_location="cpu")
        _check_content(tensors, HOME)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, str(partial))
        partial.replace(target)
    finally:
        raw.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)
    return target


def content_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and float32 values; counters of batches are left out."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        if key.endswith("num_batches_tracked"):
            continue
        digest.update(key.encode())
        digest.update(tensors[key].float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_content(tensors: dict[str, torch.Tensor], source: str) -> None:
    if content_sha256(tensors) != CONTENT_SHA256:
        raise UserError(f"{source}: holds other parameters than those of Li et al. 2017 (GIF, 160 classes)")


@lru_cache(maxsize=1)
def _network(path: Path, _changed_ns: int) -> HighRes3DNet:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from mrsr_bench.benchmarks.segmentation.network import HighRes3DNet

    try:
        tensors = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path.name}: is not a readable safetensors file ({error})") from error
    network = HighRes3DNet()
    wanted = network.state_dict()
    wrong = [k for k in wanted if k not in tensors or tensors[k].shape != wanted[k].shape]
    if wrong or set(tensors) - set(wanted):
        raise UserError(f"{path.name}: holds no HighRes3DNet of 160 classes; expected {FILE}")
    _check_content(tensors, path.name)
    network.load_state_dict(tensors)
    return network.eval().to(memory_format=torch.channels_last_3d)  # a third less time on a CPU


def load_network(path: Path) -> HighRes3DNet:
    """The network with the parameters in ``path``, in eval mode; the last one is kept.

    Raises:
        UserError: the file is a pickle, damaged, or holds other parameters.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path.name}: parameters are read from .safetensors only, since a pickle can run any code")
    return _network(path, path.stat().st_mtime_ns)
