"""A head in, its parcellation out: prepared, cut into windows that bound the memory, labelled, kept for the next time.

Labels take minutes on a CPU, and every method is compared with those of one HR. So they are kept in
``MRSR_BENCH_HOME/segmentation/labels`` under a hash of all that they follow from: voxels, affine, the network's
parameters, how the image is prepared and cut, the libraries' versions and the kind of device. About 0.3 MB a head;
the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mrsr_bench.benchmarks.segmentation.parameters import CONTENT_SHA256, load_network, parameter_file
from mrsr_bench.benchmarks.segmentation.preparation import one_mm_grid, prepared

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.segmentation.network import HighRes3DNet
    from mrsr_bench.volume import FloatArray, Grid, Volume

Labels = npt.NDArray[np.int16]

VERSION = 1
"""Of the way from image to labels (preparation, box, windows); a change of any makes kept labels stale."""
WINDOW, MARGIN = 144, 16
"""Voxels. A window of 144^3 needs about 3 GiB. The margin is less than the receptive field's radius (43): what lies
further away hardly matters, and a margin of 43 would compute four times as much."""
_HEAD = -0.5
"""Whitened intensity above which a voxel may belong to the head; windows cover the box of these, with the margin."""


def windowed_labels(
    network: HighRes3DNet, image: FloatArray, *, window: int = WINDOW, margin: int = MARGIN, device: str = "cpu"
) -> Labels:
    """The class of every voxel of ``image`` (whitened, x, y, z), from overlapping windows of at most ``window``^3."""
    import torch

    from mrsr_bench.zoo.inference import tiles
    from mrsr_bench.zoo.method import Tiling

    network = network.to(device)
    whole = torch.from_numpy(np.ascontiguousarray(image))
    out = np.zeros(image.shape, dtype=np.int16)
    for tile in tiles(image.shape, Tiling(window, margin)):
        found = network.labels(whole[tile.read][None, None].to(device))[0].cpu().numpy()
        inner = tuple(slice(k.start - r.start, k.stop - r.start) for k, r in zip(tile.keep, tile.read, strict=True))
        out[tile.keep] = found[inner]
    return out


def segment(volume: Volume, parameters: str | Path | None = None, *, device: str = "auto") -> tuple[Labels, Grid]:
    """The GIF label (0: background, to 159) of every voxel on a 1 mm grid, and that grid; kept labels are not redone.

    Raises:
        UserError: the parameters or SimpleITK are missing, or the image has no contrast.
    """
    from mrsr_bench.benchmarks.provenance import choose_device, exact_float32

    device = choose_device(device)
    network = load_network(parameter_file(parameters))
    grid = one_mm_grid(volume.grid)
    kept = _place(volume, device)
    labels = _kept(kept, grid.shape)
    if labels is None:
        image = prepared(volume).data
        labels = np.zeros(image.shape, dtype=np.int16)
        box = _head_box(image)
        with exact_float32():
            labels[box] = windowed_labels(network, image[box], device=device)
        _keep(kept, labels)
    return labels, grid


def _head_box(image: FloatArray) -> tuple[slice, ...]:
    bright = image > _HEAD
    box = []
    for axis, size in enumerate(image.shape):
        filled = np.flatnonzero(bright.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(0, int(filled[0]) - MARGIN), min(size, int(filled[-1]) + 1 + MARGIN)))
    return tuple(box)


def _place(volume: Volume, device: str) -> Path:
    """Where the labels of ``volume`` are kept."""
    from importlib.metadata import PackageNotFoundError, version

    from mrsr_bench.zoo.weights import home

    digest = hashlib.sha256()
    told = [str(VERSION), CONTENT_SHA256, str(WINDOW), str(MARGIN), device.partition(":")[0], str(volume.data.shape)]
    for library in ("SimpleITK", "torch"):
        try:
            told.append(f"{library} {version(library)}")
        except PackageNotFoundError:
            told.append(library)
    digest.update("\n".join(told).encode())
    digest.update(np.ascontiguousarray(volume.affine, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(volume.data, dtype="<f4").tobytes())
    return home() / "segmentation" / "labels" / f"{digest.hexdigest()}.npz"


def _kept(file: Path, shape: tuple[int, ...]) -> Labels | None:
    """The labels in ``file``; None if they are not there or not whole."""
    import zipfile
    import zlib

    try:
        with np.load(file, allow_pickle=False) as stored:
            labels = stored["labels"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return np.asarray(labels) if labels.shape == shape and labels.dtype == np.int16 else None


def _keep(file: Path, labels: Labels) -> None:
    """Write ``labels`` whole or not at all; a place that cannot be written only costs the time of doing them again."""
    partial = file.with_name(f".{file.stem}.{os.getpid()}.npz")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.savez_compressed(partial, labels=labels)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
