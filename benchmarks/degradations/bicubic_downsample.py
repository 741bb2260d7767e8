"""Antialiased bicubic downsampling (a = -0.5), the "LR by hand" of the 2D super-resolution papers.

As `torch.nn.functional.interpolate(mode="bicubic", antialias=True, align_corners=False)`; no scanner does this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params, checked_factor

if TYPE_CHECKING:
    import numpy as np

    from mrsr_bench.volume import Grid, Volume


class BicubicDownsample(Degradation):
    """Each slice shrunk by an antialiased bicubic kernel along one or two axes. Parameter: ``factor``.

    A size that the factor does not divide is cropped first; the M samples kept then cover the cropped field of view
    evenly, so a whole factor is met exactly and any other to within one part in M.
    """

    name = "bicubic_downsample"
    summary = "antialiased bicubic (a = -0.5) in the plane, as the 2D papers make LR"
    defaults: Mapping[str, Any] = {"factor": [4, 4, 1]}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        self._factor(params)
        return params

    def _factor(self, params: Mapping[str, Any]) -> tuple[float, float, float]:
        factor = checked_factor(params["factor"], self.name)
        if all(f != 1 for f in factor):
            asked = "x".join(f"{f:g}" for f in factor)
            raise UserError(f"{self.name} works in a plane: one of the three factors must be 1; got {asked}")
        return factor

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        from mrsr_bench.volume import AxisAcquisition

        factor = grid.factor_by_axis(self._factor(params))
        kept = [math.floor(n / f + 1e-9) for n, f in zip(grid.shape, factor, strict=True)]
        if min(kept) < 1:
            asked = "x".join(f"{f:g}" for f in factor)
            raise UserError(f"{self.name}: a volume of shape {grid.shape} is too small for the factor {asked}")
        stop = [math.floor(m * f + 1e-9) for m, f in zip(kept, factor, strict=True)]
        step = [n / m for n, m in zip(stop, kept, strict=True)]
        lr = grid.resized(kept, step, [(s - 1) / 2 for s in step])
        acquisition = [
            AxisAcquisition("bicubic", width=spacing) if f != 1 else AxisAcquisition()
            for spacing, f in zip(lr.spacing, factor, strict=True)
        ]
        return Geometry((0, 0, 0), (stop[0], stop[1], stop[2]), lr, (acquisition[0], acquisition[1], acquisition[2]))

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        import numpy as np
        import torch
        from torch.nn.functional import interpolate

        place = self.geometry(volume.grid, params)
        image = self.reference(volume, params).data
        degraded = [axis for axis in range(3) if place.lr.shape[axis] < image.shape[axis]]
        still = next(axis for axis in range(3) if axis not in degraded)
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, still, 0)))[:, None]
        size = [n for axis, n in enumerate(place.lr.shape) if axis != still]
        small = interpolate(slices, size=size, mode="bicubic", antialias=True, align_corners=False)
        data = np.moveaxis(small[:, 0].numpy(), 0, still)
        return volume.with_data(np.ascontiguousarray(data), place.lr, acquisition=place.acquisition)


DEGRADATIONS = (BicubicDownsample(),)
