"""Antialiased bicubic downsampling (a = -0.5), the "LR by hand" of the 2D super-resolution papers.

As `torch.nn.functional.interpolate(mode="bicubic", antialias=True, align_corners=False)`; no scanner does this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params, checked_factor, stack_axis

if TYPE_CHECKING:
    import numpy as np

    from mrsr_bench.volume import Grid, Volume

PLANES = ("stated", "finest")


class BicubicDownsample(Degradation):
    """Each slice shrunk by an antialiased bicubic kernel along one or two axes.

    Parameters: ``factor``; ``plane``, "stated" (the factor is R x A x S as it stands) or "finest" (for 2D stacks of any
    orientation: where the factor would shrink the slice axis, that axis and S change places in it, so that 4x4x1 falls
    on A and S of a sagittal stack and on R and S of a coronal one, and 1x4x1 on A wherever A is in the plane and else
    on S; axial stacks and volumes without a slice axis take it as it stands). `sample` records the factor that results.

    A size that the factor does not divide is cropped first; the M samples kept then cover the cropped field of view
    evenly, so a whole factor is met exactly and any other to within one part in M.
    """

    name = "bicubic_downsample"
    summary = "antialiased bicubic (a = -0.5) in the plane, as the 2D papers make LR"
    defaults: Mapping[str, Any] = {"factor": [4, 4, 1], "plane": "stated"}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        if params["plane"] not in PLANES:
            raise UserError(f"{self.name}: plane is {' or '.join(PLANES)}; got {params['plane']!r}")
        return {**params, "factor": list(self._factor(volume.grid, params))}

    def _factor(self, grid: Grid, params: Mapping[str, Any]) -> tuple[float, float, float]:
        """R x A x S on this grid; what was turned to the plane of a stack before stays as it is."""
        factor = checked_factor(params["factor"], self.name)
        if all(f != 1 for f in factor):
            asked = "x".join(f"{f:g}" for f in factor)
            raise UserError(f"{self.name} works in a plane: one of the three factors must be 1; got {asked}")
        return _in_plane(grid, factor) if params.get("plane") == "finest" else factor

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        from mrsr_bench.volume import AxisAcquisition

        factor = grid.factor_by_axis(self._factor(grid, params))
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


def _in_plane(grid: Grid, factor: tuple[float, float, float]) -> tuple[float, float, float]:
    """``factor`` with the entry of the slice axis, unless that is 1, exchanged for that of S.

    Raises:
        UserError: that of S is not 1.
    """
    across = stack_axis(grid)
    if across is None or factor[across] == 1:
        return factor
    if factor[2] != 1:
        asked = "x".join(f"{f:g}" for f in factor)
        raise UserError(f"bicubic_downsample: in the finest plane the factor is f x f x 1 or 1 x f x 1; got {asked}")
    turned = list(factor)
    turned[across], turned[2] = turned[2], turned[across]
    return (turned[0], turned[1], turned[2])


DEGRADATIONS = (BicubicDownsample(),)
