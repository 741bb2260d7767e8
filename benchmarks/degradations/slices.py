"""Thick and thin slices: what a 2D multi-slice scan gives along its slice axis.

``thick_slices`` averages over a slice profile (box: each slice is the mean of s HR slices; Gaussian: a stated full
width at half maximum), with an optional gap; ``thin_slices`` picks every s-th slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import (
    Degradation,
    Geometry,
    Params,
    checked_factor,
    checked_number,
    single_axis_factor,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import AxisAcquisition, AxisKind, Grid, Volume

PROFILES = ("box", "gaussian")


def _along(axis: int, grid: Grid, kind: AxisKind, width: float, gap: float) -> tuple[AxisAcquisition, ...]:
    from mrsr_bench.volume import AxisAcquisition

    return tuple(
        AxisAcquisition(kind, width=width, gap=gap) if index == axis else AxisAcquisition() for index in range(3)
    )


def _geometry(
    grid: Grid,
    axis: int,
    count: int,
    covered: int,
    step: float,
    origin: float,
    acquisition: tuple[AxisAcquisition, ...],
) -> Geometry:
    shape, steps, origins, stop = list(grid.shape), [1.0] * 3, [0.0] * 3, list(grid.shape)
    shape[axis], steps[axis], origins[axis], stop[axis] = count, step, origin, covered
    lr = grid.resized(shape, steps, origins)
    return Geometry((0, 0, 0), (stop[0], stop[1], stop[2]), lr, (acquisition[0], acquisition[1], acquisition[2]))


class ThickSlices(Degradation):
    """Slices of a stated profile every ``factor`` HR slices.

    Parameters: ``factor`` (one axis above 1; the distance between slices); ``profile`` ("box" or "gaussian"); ``fwhm``
    (of the Gaussian, in slice distances); ``gap`` (share of the slice distance that no slice covers, box only).
    """

    name = "thick_slices"
    summary = "slices averaged over a box or Gaussian profile, optional gap"
    defaults: Mapping[str, Any] = {"factor": [1, 1, 4], "profile": "box", "fwhm": 1.0, "gap": 0.0}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        single_axis_factor(volume.grid, checked_factor(params["factor"], self.name), self.name)
        if params["profile"] not in PROFILES:
            raise UserError(f"{self.name}: profile is box or gaussian; got {params['profile']!r}")
        checked_number(params, "gap", self.name, 0, 0.99)
        checked_number(params, "fwhm", self.name, 0.01, 10)
        return params

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        axis, s = single_axis_factor(grid, checked_factor(params["factor"], self.name), self.name)
        count = math.floor(grid.shape[axis] / s + 1e-9)
        if count < 1:
            raise UserError(f"{self.name}: {grid.shape[axis]} slices are too few for slices of {s:g}")
        distance = s * grid.spacing[axis]
        box = params["profile"] == "box"
        gap = float(params["gap"]) * distance if box else 0.0
        width = distance - gap if box else float(params["fwhm"]) * distance
        acquisition = _along(axis, grid, "box" if box else "gaussian", width, gap)
        return _geometry(grid, axis, count, math.floor(count * s + 1e-9), s, (s - 1) / 2, acquisition)

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        import numpy as np

        from mrsr_bench.zoo.regrid import apply_matrices

        place = self.geometry(volume.grid, params)
        axis, s = single_axis_factor(volume.grid, checked_factor(params["factor"], self.name), self.name)
        centres = np.arange(place.lr.shape[axis], dtype=np.float64) * s + (s - 1) / 2
        size = volume.data.shape[axis]
        if params["profile"] == "box":
            weights = box_matrix(centres, s * (1 - float(params["gap"])), size)
        else:
            weights = gaussian_matrix(centres, s * float(params["fwhm"]), size)
        matrices = [weights if index == axis else None for index in range(3)]
        return volume.with_data(apply_matrices(volume.data, matrices), place.lr, acquisition=place.acquisition)


class ThinSlices(Degradation):
    """Every s-th HR slice, s whole; the slices between are not measured. Parameter: ``factor`` (one axis above 1)."""

    name = "thin_slices"
    summary = "every s-th slice, the slices between not measured"
    defaults: Mapping[str, Any] = {"factor": [1, 1, 4]}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        self._axis(volume.grid, params)
        return params

    def _axis(self, grid: Grid, params: Mapping[str, Any]) -> tuple[int, int]:
        axis, s = single_axis_factor(grid, checked_factor(params["factor"], self.name), self.name)
        if s != int(s):
            raise UserError(f"{self.name}: picks every s-th slice, so s must be whole; got {s:g}")
        return axis, int(s)

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        axis, s = self._axis(grid, params)
        count = (grid.shape[axis] - 1) // s + 1
        width = grid.spacing[axis]
        acquisition = _along(axis, grid, "sample", width, (s - 1) * width)
        return _geometry(grid, axis, count, (count - 1) * s + 1, s, 0.0, acquisition)

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        place = self.geometry(volume.grid, params)
        axis, s = self._axis(volume.grid, params)
        picked = [slice(None)] * 3
        picked[axis] = slice(None, None, s)
        return volume.with_data(volume.data[tuple(picked)].copy(), place.lr, acquisition=place.acquisition)


def box_matrix(centres: npt.NDArray[np.float64], width: float, size: int) -> npt.NDArray[np.float64]:
    """Overlap of boxes of ``width`` voxels around ``centres`` with ``size`` voxels of width 1; rows sum to one."""
    import numpy as np

    voxel = np.arange(size)
    low = np.maximum(centres[:, None] - width / 2, voxel - 0.5)
    high = np.minimum(centres[:, None] + width / 2, voxel + 0.5)
    weights = np.clip(high - low, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def gaussian_matrix(centres: npt.NDArray[np.float64], fwhm: float, size: int) -> npt.NDArray[np.float64]:
    """Gaussian profiles of ``fwhm`` voxels around ``centres``; rows sum to one."""
    import numpy as np

    sigma = fwhm / math.sqrt(8 * math.log(2))
    distance = ((centres[:, None] - np.arange(size)) / sigma) ** 2
    nearest = distance.min(axis=1, keepdims=True)  # a narrow profile between two voxels must not underflow to nothing
    weights = np.exp(-0.5 * (distance - nearest))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


DEGRADATIONS = (ThickSlices(), ThinSlices())
