"""Tiles: a network over an image or a stack of images in pieces that fit into memory.

Tiles have a margin that is thrown away; where it covers the receptive field, tiles give what the whole image would.
With ``batch_norm="tile"`` every tile is normalised by its own statistics, so the number of tiles in a batch changes
nothing; tiles that are constant pass through. Sizes are those of the input: an upscaling network's output is ``scale``
times as large along each axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mrsr_bench import UserError
from mrsr_bench.volume import FloatArray
from mrsr_bench.zoo.method import BatchNormMode, Tiling

CONSTANT_TILE = 1e-6
"""A tile whose values span less than this (in units of the scaled input) is returned as it is in ``tile`` mode."""

Forward = Callable[[Tensor], Tensor]
"""A network: (n, 1, *size) to (n, 1, *size times scale)."""


@dataclass(frozen=True)
class Tile:
    """A tile: what is read along each axis, and the part of it that is kept."""

    read: tuple[slice, ...]
    keep: tuple[slice, ...]


def _cut(size: int, length: int, margin: int) -> list[tuple[int, int, int, int]]:
    """(read start, read stop, keep start, keep stop) of tiles of ``length`` along an axis; the last one moves back."""
    starts = [0]
    while starts[-1] + length < size:
        starts.append(min(starts[-1] + length - 2 * margin, size - length))
    ends = [start + length - margin for start in starts[:-1]] + [size]
    return list(zip(starts, [s + length for s in starts], [0, *ends[:-1]], ends, strict=True))


def _lengths(size: int, tiling: Tiling) -> list[int]:
    """Tile lengths worth trying along an axis: the shortest that cover it in 1, 2, 3 ... tiles, to half a window."""
    found = [size]
    least = max(tiling.window // 2, 2 * tiling.margin + 1)
    for count in range(2, size + 1):
        length = -(-(size + 2 * tiling.margin * (count - 1)) // count)
        if length < least:
            break
        if length < found[-1]:
            found.append(length)
    return found


def tile_shape(shape: Sequence[int], tiling: Tiling) -> tuple[int, ...]:
    """How large the tiles of an image of 2 or 3 axes are.

    In ``tile`` mode their size is part of the method: cubes of ``window`` voxels a side. In ``eval`` mode it is not,
    and the shape is the one that computes the fewest voxels among those of at most ``window`` to the power of the
    number of axes: that bounds memory.

    Raises:
        UserError: the margin eats the whole window.
    """
    if tiling.window <= 2 * tiling.margin and max(shape) > tiling.window:
        raise UserError(
            f"a window of {tiling.window} voxels has nothing left after a margin of {tiling.margin}; make it larger"
        )
    if tiling.batch_norm == "tile":
        return tuple(min(n, tiling.window) for n in shape)
    choices = itertools.product(*(_lengths(n, tiling) for n in shape))
    fitting = [lengths for lengths in choices if math.prod(lengths) <= tiling.window ** len(shape)]
    if not fitting:
        return tuple(min(n, tiling.window) for n in shape)

    def computed(lengths: tuple[int, ...]) -> int:
        counts = (len(_cut(n, length, tiling.margin)) for n, length in zip(shape, lengths, strict=True))
        return math.prod(lengths) * math.prod(counts)

    return min(fitting, key=computed)


def tiles(shape: Sequence[int], tiling: Tiling) -> list[Tile]:
    """Tiles of one shape that cover an image; together their kept parts are every voxel once."""
    lengths = tile_shape(shape, tiling)
    axes = [_cut(n, length, tiling.margin) for n, length in zip(shape, lengths, strict=True)]
    return [
        Tile(tuple(slice(a, b) for a, b, _, _ in parts), tuple(slice(c, d) for _, _, c, d in parts))
        for parts in itertools.product(*axes)
    ]


def run_tiled(
    network: Forward,
    image: FloatArray,
    tiling: Tiling,
    *,
    device: str = "cpu",
    batch: int = 1,
    autocast: bool = False,
    scale: Sequence[int] | None = None,
) -> FloatArray:
    """``network`` over ``image`` (x, y, z, float32) in tiles; the output is ``scale`` times its shape (None: the same).

    ``batch`` tiles go through together; the result does not depend on it.
    """
    stack = run_stack(network, image[None], tiling, device=device, batch=batch, autocast=autocast, scale=scale)
    return cast(FloatArray, stack[0])


@torch.inference_mode()
def run_stack(
    network: Forward,
    stack: FloatArray,
    tiling: Tiling,
    *,
    device: str = "cpu",
    batch: int = 1,
    autocast: bool = False,
    scale: Sequence[int] | None = None,
) -> FloatArray:
    """`run_tiled` for several images of one shape: (n, *size) in, (n, *size times scale) out.

    A batch may hold tiles of different images; each is computed by itself.
    """
    size = stack.shape[1:]
    by = tuple(scale) if scale is not None else (1,) * len(size)
    out = np.empty((len(stack), *(n * f for n, f in zip(size, by, strict=True))), dtype=np.float32)
    images = torch.from_numpy(np.require(stack, np.float32, ("C", "W")))
    cut = tiles(size, tiling)
    work = [(index, tile) for index in range(len(stack)) for tile in cut]
    for group in _batches(work, batch):
        reads = torch.stack([images[index][tile.read] for index, tile in group])[:, None]
        done = _forward(network, reads, by, tiling.batch_norm, device, autocast)
        for (index, tile), result in zip(group, done, strict=True):
            edges = list(zip(tile.keep, tile.read, by, strict=True))
            inner = tuple(slice((k.start - r.start) * f, (k.stop - r.start) * f) for k, r, f in edges)
            place = tuple(slice(k.start * f, k.stop * f) for k, _, f in edges)
            out[index][place] = result[0][inner].numpy()
    return out


def _batches(items: Sequence[tuple[int, Tile]], size: int) -> Iterator[Sequence[tuple[int, Tile]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _forward(
    network: Forward, reads: Tensor, scale: Sequence[int], mode: BatchNormMode, device: str, autocast: bool
) -> Tensor:
    live = list(range(len(reads)))
    if mode == "tile":
        flat = reads.flatten(1)
        live = [index for index, span in enumerate((flat.amax(1) - flat.amin(1)).tolist()) if span > CONSTANT_TILE]
    done = reads.clone()
    for axis, factor in enumerate(scale, start=2):
        done = done.repeat_interleave(factor, axis)
    if live:
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=autocast):
            result = network(reads[live].to(device))
        done[live] = result.float().cpu()
    return done
