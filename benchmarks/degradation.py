"""What a degradation is: HR volume in, LR volume out, parameters drawn first and recorded."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    import numpy as np

    from mrsr_bench.volume import AxisAcquisition, Grid, Volume

Params = dict[str, Any]

STACK_RATIO = 1.5
"""An axis whose spacing exceeds both others by more is the slice axis of a 2D stack."""


@dataclass(frozen=True)
class Geometry:
    """Where an LR volume lies: ``start`` and ``stop`` crop HR to what it covers; the LR grid; its acquisition."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    lr: Grid
    acquisition: tuple[AxisAcquisition, AxisAcquisition, AxisAcquisition]


class Degradation(ABC):
    """An acquisition model. Subclasses are stateless; all of their state is in ``params`` (JSON-able).

    ``params["factor"]`` is in world order R x A x S; `geometry` turns it to the volume's own axes.
    """

    name: str
    version: int = 1
    summary: str
    defaults: Mapping[str, Any]

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        """Draw the parameters for one volume: ``settings`` (a protocol's) over the defaults, then what is random.

        Raises:
            UserError: ``settings`` holds a parameter that this degradation does not have, or an impossible value.
        """
        chosen = dict(settings or {})
        unknown = sorted(set(chosen) - set(self.defaults))
        if unknown:
            raise UserError(
                f"{self.name} has no parameter {', '.join(map(repr, unknown))}; it has: {', '.join(self.defaults)}"
            )
        return {**self.defaults, **chosen}

    @abstractmethod
    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        """The LR grid for an HR ``grid``, without any voxels.

        Raises:
            UserError: the grid is too small for the factor.
        """

    @abstractmethod
    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        """The LR volume, on the grid and with the acquisition that `geometry` states; deterministic."""

    def reference(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        """HR cropped to what the LR volume covers: the grid that SR is compared on."""
        place = self.geometry(volume.grid, params)
        return volume.cropped(place.start, place.stop)


def checked_number(params: Mapping[str, Any], key: str, name: str, low: float, high: float) -> float:
    """``params[key]`` as a number from ``low`` to ``high``.

    Raises:
        UserError: it is anything else.
    """
    value = params[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
        return float(value)
    bounds = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
    raise UserError(f"{name}: {key} is a number {bounds}; got {value!r}")


def checked_factor(value: object, name: str) -> tuple[float, float, float]:
    """Three factors of at least 1, R x A x S.

    Raises:
        UserError: it is anything else.
    """
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 3:
        numbers = [float(v) for v in value if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) == 3 and all(1 <= v <= 64 for v in numbers):
            return (numbers[0], numbers[1], numbers[2])
    raise UserError(f"{name}: a factor is three numbers from 1 to 64, R x A x S; got {value!r}")


def single_axis_factor(grid: Grid, factor: Sequence[float], name: str) -> tuple[int, float]:
    """The one degraded array axis and its factor, for slice models.

    Raises:
        UserError: none or several axes are degraded.
    """
    by_axis = grid.factor_by_axis(factor)
    degraded = [axis for axis in range(3) if by_axis[axis] != 1]
    if len(degraded) != 1:
        raise UserError(f"{name} degrades exactly one axis; the factor {'x'.join(f'{f:g}' for f in factor)} does not")
    return degraded[0], by_axis[degraded[0]]


def stack_axis(grid: Grid) -> int | None:
    """The world axis (0 R, 1 A, 2 S) that the slices of a 2D stack are stacked along; None for any other volume."""
    spacing = [grid.spacing[axis] for axis in grid.world_to_array()]
    coarsest = max(range(3), key=lambda world: spacing[world])
    return coarsest if spacing[coarsest] > STACK_RATIO * sorted(spacing)[1] else None
