"""An interpolation as a method: LR volume and target grid in, SR volume out, in float32."""

from __future__ import annotations

from dataclasses import dataclass

from mrsr_bench.volume import Grid, Volume
from mrsr_bench.zoo.regrid import Interpolation, regrid


@dataclass(frozen=True)
class InterpolationUpscaler:
    """Regrids LR onto the target by one named interpolation."""

    interpolation: Interpolation

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """``lr`` on ``target``.

        Raises:
            UserError: the interpolation cannot work between grids whose axes are not parallel.
        """
        return regrid(lr, target, self.interpolation)


def build(interpolation: Interpolation) -> InterpolationUpscaler:
    """The method called ``interpolation``."""
    return InterpolationUpscaler(interpolation)
