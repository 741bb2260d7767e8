"""Where a network's voxels lie: which axis takes which place, and the grid that an upscaling network makes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mrsr_bench.volume import Grid, Volume

_TIE = 1e-3
_CLEARLY = 0.05
_EDGES_AGREE = ("box", "gaussian", "bicubic")


def factors_by_world_axis(lr: Grid, target: Grid) -> tuple[float, float, float]:
    """LR spacing over target spacing along R, A, S."""
    order = target.world_to_array()
    ratio = [lr.spacing[axis] / target.spacing[axis] for axis in order]
    return (ratio[0], ratio[1], ratio[2])


def network_order(lr: Volume, target: Grid, pattern: Sequence[float]) -> tuple[int, int, int]:
    """The array axis that takes each place of a network trained for the factors ``pattern`` (R x A x S).

    World order where the degraded axes are the trained ones; otherwise the order that brings them there, so that
    a coronal stack of thick slices meets a network that was trained along S as an axial one does.
    """
    world = target.world_to_array()
    actual = factors_by_world_axis(lr.grid, target)

    def apart(places: tuple[int, ...]) -> float:
        return sum(abs(math.log(actual[place] / wanted)) for place, wanted in zip(places, pattern, strict=True))

    best = min(itertools.permutations(range(3)), key=lambda places: (round(apart(places) / _TIE), places))
    return (world[best[0]], world[best[1]], world[best[2]])


def slices_first(order: tuple[int, int, int], target: Grid, pattern: Sequence[float]) -> tuple[int, int, int]:
    """``order`` with a 2D network's slices across S: of the two axes left whole, the clearly finer one takes R's place.

    Only where A alone is degraded is there a choice: a sagittal stack's slices lie in the A-S plane.
    """
    r, a, s = order
    finer = target.spacing[s] < target.spacing[r] * (1 - _CLEARLY)
    return (s, a, r) if finer and pattern[0] == pattern[2] == 1 else order


def sr_grid(lr: Volume, step: Sequence[int]) -> Grid:
    """The grid of an upscaling network's output: ``step`` new voxels for each LR voxel along every array axis.

    Where a voxel is a stretch of the object (box, gaussian, bicubic) the voxel edges agree, so the origin moves by
    -(step - 1)/2 new voxels; where it is a sample (sample, kspace) the first one stays.
    """
    shape = [n * s for n, s in zip(lr.data.shape, step, strict=True)]
    first = [
        -(s - 1) / 2 / s if axis.kind in _EDGES_AGREE else 0.0 for s, axis in zip(step, lr.acquisition, strict=True)
    ]
    return lr.grid.resized(shape, [1 / s for s in step], first)
