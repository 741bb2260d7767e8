"""No degradation: the image is a real LR scan, to be brought onto a finer grid, and no reference of it exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params, checked_factor, stack_axis

if TYPE_CHECKING:
    import numpy as np

    from mrsr_bench.volume import Grid, Volume

DIRECTIONS = ("stated", "through")


class AsAcquired(Degradation):
    """LR is the image itself; the target grid is finer by ``factor`` and covers the same field of view.

    Parameters: ``factor``; ``direction``, "stated" (the factor is R x A x S as it stands) or "through" (1 x 1 x f along
    the slice axis of a 2D stack, whatever its orientation, and along S of a volume that has none). What the image does
    not say of its acquisition is guessed as `mrsr_bench.zoo.upscale` does.

    `reference` is a stand-in: LR brought onto the target grid by cubic splines, for its grid, mask and range. It is no
    HR, and nothing may be compared with it.
    """

    name = "as_acquired"
    summary = "none: a real LR scan, SR on a finer grid, no reference"
    defaults: Mapping[str, Any] = {"factor": [2, 2, 1], "direction": "stated"}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        if params["direction"] not in DIRECTIONS:
            raise UserError(f"{self.name}: direction is {' or '.join(DIRECTIONS)}; got {params['direction']!r}")
        return {**params, "factor": list(self._factor(volume.grid, params))}

    def _factor(self, grid: Grid, params: Mapping[str, Any]) -> tuple[float, float, float]:
        """R x A x S on this grid; what was turned to the slice axis before stays as it is."""
        factor = checked_factor(params["factor"], self.name)
        if all(f == 1 for f in factor):
            raise UserError(f"{self.name}: the factor is 1 along every axis, so there is nothing to upscale")
        if params.get("direction") != "through":
            return factor
        across = stack_axis(grid)
        across = 2 if across is None else across
        if sorted(factor)[1] != 1 or (factor[across] == 1 and factor[2] == 1):
            asked = "x".join(f"{f:g}" for f in factor)
            raise UserError(f"{self.name}: through the slices the factor is 1 x 1 x f; got {asked}")
        turned = [1.0, 1.0, 1.0]
        turned[across] = max(factor)
        return (turned[0], turned[1], turned[2])

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        from mrsr_bench.zoo.upscale import guess_acquisition

        guess = guess_acquisition(grid, grid.factor_by_axis(self._factor(grid, params)))
        return Geometry((0, 0, 0), grid.shape, grid, guess.acquisition)

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        known = any(axis.kind != "full" for axis in volume.acquisition)
        acquisition = volume.acquisition if known else self.geometry(volume.grid, params).acquisition
        return replace(volume, data=volume.data.copy(), acquisition=acquisition)

    def reference(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        from mrsr_bench.zoo.regrid import regrid
        from mrsr_bench.zoo.upscale import target_grid

        lr = self.apply(volume, params)
        factor = volume.grid.factor_by_axis(self._factor(volume.grid, params))
        return regrid(lr, target_grid(lr.grid, lr.acquisition, factor), "cubic")


DEGRADATIONS = (AsAcquired(),)
