"""A head in, its parcellation out: prepared, cut into windows that bound the memory, labelled, brought back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mrsr_bench.benchmarks.segmentation.parameters import load_network, parameter_file
from mrsr_bench.benchmarks.segmentation.preparation import prepared

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.segmentation.network import HighRes3DNet
    from mrsr_bench.volume import FloatArray, Volume

Labels = npt.NDArray[np.int16]

WINDOW, MARGIN = 128, 16
"""Voxels. A window of 128^3 needs about 3 GiB. The margin is less than the receptive field's radius (43): what lies
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


def segment(volume: Volume, parameters: str | Path | None = None, *, device: str = "auto") -> tuple[Labels, Volume]:
    """The GIF label (0: background, to 159) of every voxel on a 1 mm grid, and the prepared image on that grid.

    Raises:
        UserError: the parameters or SimpleITK are missing, or the image has no contrast.
    """
    from mrsr_bench.benchmarks.provenance import choose_device, exact_float32

    network = load_network(parameter_file(parameters))
    image = prepared(volume)
    bright = image.data > _HEAD
    box = []
    for axis, size in enumerate(image.data.shape):
        filled = np.flatnonzero(bright.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(0, int(filled[0]) - MARGIN), min(size, int(filled[-1]) + 1 + MARGIN)))
    labels = np.zeros(image.data.shape, dtype=np.int16)
    with exact_float32():
        labels[tuple(box)] = windowed_labels(network, image.data[tuple(box)], device=choose_device(device))
    return labels, image
