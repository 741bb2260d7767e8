"""Walks: how a network meets a volume, and where what it gives lies in the world.

*Places.* A network is trained on volumes whose axes stand in the order R, A, S with its task's degraded axes in fixed
places. The axes of the LR volume at hand take those places by `placement.network_order`, so that a coronal stack of
thick slices meets a network trained along S as an axial one does. LR and target may store their axes in any order.

*Planes of 2D networks.* A slice is (height, width).

- Two degraded axes: their plane; the height is the later of them in the network's order.
- One degraded axis: its plane with the finest other axis, A before R before S where they are equally fine. In a network
  that upscales the height alone that axis is the height; elsewhere the height is the later of the two.
- Through the plane: both planes that contain the degraded axis, which is the height; the two results are averaged.

*The grid of an upscaling network.* Where it was trained on voxels that are stretches of the object (thick slices,
bicubic), the edges of LR and SR voxels agree; where on samples (thin slices, k-space), the first ones do. If that grid
is not the target, or a crop of it, the result is brought there by cubic interpolation in world coordinates, and a note
says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from mrsr_bench.volume import FULLY_ACQUIRED, AxisAcquisition, AxisKind, FloatArray, Grid, Triple, Volume
from mrsr_bench.zoo.placement import network_order, sr_grid
from mrsr_bench.zoo.regrid import Interpolation, parallel_axes, regrid

Run = Callable[[FloatArray], FloatArray]
"""A network over a stack: (n, *size) to (n, *size times scale), in the units of LR."""
Axes = tuple[int, int, int]
Kinds = tuple[AxisKind, AxisKind, AxisKind]
Walk = Literal["volume", "slices", "through_plane"]

DEGRADED = 1.05
"""An axis whose factor exceeds this is degraded."""
WHOLE = 1e-3
"""Voxels: a place this close to a voxel centre is that voxel."""
_DIGITS = 3
_WIDTH_ORDER = (1, 0, 2)
"""Places in the order in which equally fine axes are taken for the width of a slice: A, R, S."""
_KINDS: dict[str, AxisKind] = {
    "kspace_truncation": "kspace",
    "thin_slices": "sample",
    "thick_slices": "box",
    "bicubic_downsample": "bicubic",
}


def _steps(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The degradations of a task, one after another: itself, or what it is composed of."""
    parameters = task.get("parameters", {})
    return list(parameters.get("steps", ())) if task.get("degradation") == "composed" else [task]


def task_factor(task: Mapping[str, Any]) -> Triple:
    """The factor of a task (a protocol's ``task`` entry), R x A x S; 1 where it does not state any."""
    product = [1.0, 1.0, 1.0]
    for step in _steps(task):
        factor = step.get("parameters", {}).get("factor", (1, 1, 1))
        product = [p * float(f) for p, f in zip(product, factor, strict=True)]
    return (product[0], product[1], product[2])


def task_kinds(task: Mapping[str, Any]) -> Kinds:
    """How a task samples each axis, R x A x S: the kind of the last step that degrades it."""
    kinds: list[AxisKind] = ["full", "full", "full"]
    for step in _steps(task):
        parameters = step.get("parameters", {})
        kind = _KINDS.get(str(step.get("degradation")), "unknown")
        if kind == "box" and parameters.get("profile") == "gaussian":
            kind = "gaussian"
        for place, factor in enumerate(parameters.get("factor", (1, 1, 1))):
            kinds[place] = kind if float(factor) > 1 else kinds[place]
    return (kinds[0], kinds[1], kinds[2])


_LIKENESS: dict[str, tuple[AxisKind, ...]] = {
    "box": ("box", "gaussian", "bicubic", "kspace", "sample"),
    "gaussian": ("gaussian", "box", "bicubic", "kspace", "sample"),
    "bicubic": ("bicubic", "box", "gaussian", "kspace", "sample"),
    "sample": ("sample", "kspace", "bicubic", "box", "gaussian"),
    "kspace": ("kspace", "bicubic", "gaussian", "box", "sample"),
}
"""For each kind of acquisition the kinds that a network may have been trained on, the most alike first: a voxel that is
a stretch of the object or a band of frequencies holds no aliases, a sample does."""


@dataclass(frozen=True)
class Placement:
    """Which array axis of LR and of the target takes each place of a network, and the factor (LR spacing over target
    spacing) along it; ``degraded``: the places that are degraded in the task, else here; ``kinds`` of the task."""

    lr: Axes
    target: Axes
    factor: Triple
    degraded: tuple[int, ...]
    kinds: Kinds

    @property
    def lead(self) -> int:
        """The place of the axis that is degraded most; the last of equals."""
        return max(self.degraded, key=lambda p: (round(self.factor[p], _DIGITS), p))

    def planes(self, spacing: Sequence[float], scale: Sequence[int] | None, through: bool) -> list[tuple[int, int]]:
        """(height, width) of the slices that a 2D network meets, as places; ``spacing`` (mm) is that of each place."""
        lead = self.lead
        if through:
            return [(lead, other) for other in range(3) if other != lead]
        alone = scale is not None and scale[0] != scale[1]
        if len(self.degraded) == 2 and not alone:
            return [(self.degraded[1], self.degraded[0])]
        if len(self.degraded) != 1:
            lead = min(_WIDTH_ORDER, key=lambda p: -round(self.factor[p], _DIGITS))
        others = [p for p in _WIDTH_ORDER if p != lead]
        width = min(others, key=lambda p: round(spacing[p], _DIGITS))
        return [(lead, width)] if alone else [(max(lead, width), min(lead, width))]


def matched_axes(lr: Grid, target: Grid) -> Axes:
    """For each array axis of ``target``, the array axis of ``lr`` that lies along it, or nearest to it."""
    along = [grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0) for grid in (lr, target)]
    cosines = np.abs(along[0].T @ along[1])
    best = max(itertools.permutations(range(3)), key=lambda p: sum(cosines[axis, t] for t, axis in enumerate(p)))
    return cast(Axes, best)


def factors(lr: Grid, target: Grid) -> Triple:
    """LR spacing over the target's along R, A, S of the target, however the two store their axes."""
    axes = matched_axes(lr, target)
    ratio = [lr.spacing[axes[axis]] / target.spacing[axis] for axis in target.world_to_array()]
    return (ratio[0], ratio[1], ratio[2])


def place(lr: Volume, target: Grid, task: Mapping[str, Any] | None) -> Placement:
    """How ``lr`` and ``target`` meet a network that was trained for ``task`` (None: as they come)."""
    axes = matched_axes(lr.grid, target)
    columns = [axes.index(axis) for axis in range(3)]  # of the target, in the order of LR's axes
    affine = target.affine.copy()
    affine[:, :3] = affine[:, columns]
    alike = Grid(cast(Axes, tuple(target.shape[axis] for axis in columns)), affine)
    pattern = (1.0, 1.0, 1.0) if task is None else task_factor(task)
    trained = tuple(p for p in range(3) if pattern[p] > DEGRADED)
    order = network_order(lr, alike, pattern) if trained else alike.world_to_array()
    ratio = [lr.spacing[axis] / alike.spacing[axis] for axis in order]
    here = tuple(p for p in range(3) if ratio[p] > DEGRADED)
    taught: Kinds = ("full", "full", "full") if task is None else task_kinds(task)
    kinds = [
        lr.acquisition[axis].kind if kind in ("full", "unknown") else kind
        for axis, kind in zip(order, taught, strict=True)
    ]
    return Placement(
        order,
        cast(Axes, tuple(columns[axis] for axis in order)),
        (ratio[0], ratio[1], ratio[2]),
        trained or here or (max(range(3), key=lambda p: ratio[p]),),
        (kinds[0], kinds[1], kinds[2]),
    )


def unlikeness(trained: AxisKind, found: AxisKind) -> int:
    """How far apart two kinds of acquisition are: 0 for the same; what is not known counts as k-space."""
    order = _LIKENESS.get(found, _LIKENESS["kspace"])
    return order.index(trained) if trained in order else len(order)


def task_distance(task: Mapping[str, Any], lr: Volume, target: Grid) -> tuple[int, int, float]:
    """How far the making of ``lr`` is from a task: number of degraded axes, kind of acquisition, then the factors."""
    at = place(lr, target, task)
    pattern = task_factor(task)
    lead = at.lead
    count = abs(sum(f > DEGRADED for f in at.factor) - sum(f > DEGRADED for f in pattern))
    apart = sum(abs(math.log(have / want)) for have, want in zip(at.factor, pattern, strict=True))
    return count, unlikeness(task_kinds(task)[lead], lr.acquisition[at.lr[lead]].kind), round(apart, 6)


def nearest_task(tasks: Sequence[Mapping[str, Any]], lr: Volume, target: Grid) -> Mapping[str, Any] | None:
    """Of the tasks that a network was trained for, the one that made, or could have made, ``lr``; None of none."""
    return min(tasks, key=lambda task: task_distance(task, lr, target), default=None)


def onto(volume: Volume, target: Grid) -> tuple[Volume, bool]:
    """``volume`` on ``target``, and whether voxels had to be interpolated (cubic), not just picked."""
    parallel = parallel_axes(volume.grid, target)
    if parallel is None:
        return regrid(volume, target, "cubic"), True
    axes, change = parallel
    picked = []
    for to, axis in enumerate(axes):
        places = change[axis, 3] + change[axis, to] * np.arange(target.shape[to])
        if np.abs(places - np.round(places)).max() > WHOLE:
            return regrid(volume, target, "cubic"), True
        picked.append(np.clip(np.round(places).astype(int), 0, volume.data.shape[axis] - 1))
    return volume.with_data(volume.data.transpose(axes)[np.ix_(*picked)], target), False


def _over_planes(image: FloatArray, planes: Sequence[tuple[int, int]], run: Run) -> FloatArray:
    """``run`` over all slices of each (height, width) plane of ``image``; the mean where there are several planes."""
    done = [np.moveaxis(run(np.moveaxis(image, plane, (1, 2))), (1, 2), plane) for plane in planes]
    return done[0] if len(done) == 1 else cast(FloatArray, np.mean(done, axis=0, dtype=np.float32))


def same_grid(lr: Volume, target: Grid, at: Placement, run: Run, how: Walk, interpolation: Interpolation) -> Volume:
    """A same-grid network: LR is brought onto ``target`` by ``interpolation`` and the network refines that."""
    given = regrid(lr, target, interpolation)
    image = given.data.transpose(at.target)
    if how == "volume":
        out = run(image[None])[0]
    else:
        spacing = [target.spacing[axis] for axis in at.target]
        out = _over_planes(image, at.planes(spacing, None, how == "through_plane"), run)
    return given.with_data(np.ascontiguousarray(out.transpose(np.argsort(at.target))))


def refined(lr: Volume, target: Grid, at: Placement, run: Run, how: Walk, scale: Sequence[int]) -> tuple[Volume, bool]:
    """An upscaling network: LR as it is, then what it gives on ``target``, and whether that took interpolation.

    ``scale`` is the network's factor along each of its own axes: three places, or height and width.
    """
    image = lr.data.transpose(at.lr)
    steps = [1, 1, 1]
    if how == "volume":
        out = run(image[None])[0]
        steps = list(scale)
    else:
        planes = at.planes([target.spacing[axis] for axis in at.target], scale, how == "through_plane")
        out = _over_planes(image, planes, run)
        for axis, factor in zip(planes[0], scale, strict=True):
            steps[axis] = factor
    back = np.argsort(at.lr)
    kinds = [AxisAcquisition(at.kinds[p]) for p in back]
    sampled = replace(lr, acquisition=(kinds[0], kinds[1], kinds[2]))
    grid = sr_grid(sampled, [steps[p] for p in back])
    return onto(lr.with_data(out.transpose(back), grid, acquisition=FULLY_ACQUIRED), target)
