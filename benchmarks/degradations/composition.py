"""Degradations one after another, as in a scan with thick slices and a truncated k-space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import AxisAcquisition, Grid, Volume

_EDGE_TOLERANCE = 1e-6
"""Voxels: a centre that lies on an edge of the field of view, but for rounding, is inside."""


class Composed(Degradation):
    """Several degradations in order. Parameter: ``steps``, a list of ``{"degradation": name, "parameters": {...}}``.

    The reference is HR cropped to the voxels whose centres lie inside the field of view that all crops leave. Along an
    axis that several steps degrade, the last one names the acquisition; point samples of thick slices stay thick
    slices, with a gap.
    """

    name = "composed"
    summary = "several degradations one after another"
    defaults: Mapping[str, Any] = {"steps": []}

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        steps = _checked_steps(super().sample(rng, volume, settings)["steps"])
        drawn = []
        for degradation, parameters in steps:
            chosen = degradation.sample(rng, volume, parameters)
            drawn.append({"degradation": degradation.name, "parameters": chosen})
            if len(drawn) < len(steps):
                volume = degradation.apply(volume, chosen)
        return {"steps": drawn}

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        import numpy as np

        from mrsr_bench.volume import FULLY_ACQUIRED

        shape = np.array(grid.shape)
        low, high = np.full(3, -0.5), shape - 0.5  # field of view in HR voxels
        origin, step = np.zeros(3), np.ones(3)  # of the grid at hand, in HR voxels
        lr, acquisition = grid, FULLY_ACQUIRED
        for degradation, parameters in _checked_steps(params["steps"]):
            place = degradation.geometry(lr, parameters)
            start, stop = np.array(place.start), np.array(place.stop)
            low = np.where(start > 0, np.maximum(low, origin + step * (start - 0.5)), low)
            high = np.where(stop < np.array(lr.shape), np.minimum(high, origin + step * (stop - 0.5)), high)
            move = np.linalg.inv(grid.affine) @ place.lr.affine
            origin, step = move[:3, 3], np.diag(move)[:3]
            merged = [
                _merged(old, new, s)
                for old, new, s in zip(acquisition, place.acquisition, place.lr.spacing, strict=True)
            ]
            lr, acquisition = place.lr, (merged[0], merged[1], merged[2])
        first = np.clip(np.ceil(low - _EDGE_TOLERANCE), 0, shape - 1)
        last = np.clip(np.floor(high + _EDGE_TOLERANCE), first, shape - 1)
        return Geometry(_triple(first), _triple(last + 1), lr, acquisition)

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        acquisition = self.geometry(volume.grid, params).acquisition
        for degradation, parameters in _checked_steps(params["steps"]):
            volume = degradation.apply(volume, parameters)
        return replace(volume, acquisition=acquisition)


def _triple(numbers: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in numbers)
    return (x, y, z)


def _merged(old: AxisAcquisition, new: AxisAcquisition, spacing: float) -> AxisAcquisition:
    """How an axis that was acquired as ``old`` and then degraded as ``new`` (to ``spacing`` mm) was acquired."""
    if new.kind == "full":
        return old
    if new.kind == "sample" and old.kind in ("box", "gaussian") and old.width is not None:
        return replace(old, gap=max(spacing - old.width, 0.0))
    return new


def _checked_steps(steps: object) -> list[tuple[Degradation, Mapping[str, Any]]]:
    from mrsr_bench.benchmarks.degradations import degradations

    expected = 'a list of {"degradation": name, "parameters": {...}}'
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise UserError(f"composed: steps is {expected}, one at least; got {steps!r}")
    found: list[tuple[Degradation, Mapping[str, Any]]] = []
    for step in steps:
        if not isinstance(step, Mapping) or set(step) - {"degradation", "parameters"} or "degradation" not in step:
            raise UserError(f"composed: steps is {expected}; got {step!r} in it")
        parameters = step.get("parameters", {})
        if not isinstance(parameters, Mapping):
            raise UserError(f"composed: the parameters of {step['degradation']} are a mapping; got {parameters!r}")
        found.append((degradations.get(str(step["degradation"])), parameters))
    return found


DEGRADATIONS = (Composed(),)
