"""Where a figure looks: the plane, the slice, its orientation and the box of the zoom, all by rule.

The rules find the head from the foreground mask alone, so they work on any grid and any anatomy, and they keep the face
out of every picture: never a sagittal slice, axial ones above the orbits, coronal ones in the posterior half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.volume import Grid

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Window = tuple[slice, slice]

DEPTH_OF_HEAD_WIDTH = 0.45
"""Axial slices lie within this share of the head's width below its top: about 70 mm in an adult, above the orbits."""
FULL_SECTION = 0.95
POSTERIOR_BAND = (0.25, 0.4)
"""Coronal slices lie in this share of the upper head's depth, counted from the back: cerebellum and posterior horns."""
RIM_OF_WIDTH = 0.1
"""The zoom ignores this share of the section's width at its border: scalp and fat are bright but of no interest."""


@dataclass(frozen=True)
class View:
    """A slice of a volume and how it is turned for display; ``rows`` and ``columns`` are array axes."""

    plane: str
    through: int
    index: int
    rows: int
    columns: int
    flip: tuple[bool, bool]
    spacing: tuple[float, float]
    window: Window

    def whole(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The whole slice, right on the left and anterior or superior up."""
        image = np.take(data, self.index, axis=self.through)
        if self.rows > self.columns:
            image = image.T
        return np.asarray(image[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1])

    def image(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The slice, cropped to the window."""
        return self.whole(data)[self.window]


def choose_view(mask: Mask, grid: Grid, degraded_axes: Sequence[int]) -> View:
    """The slice that shows the degradation and no face.

    Coronal if S is degraded, else axial; never sagittal. Axial: of the slices 0.11 to 0.45 head widths below the top
    (not below the middle of the mask), the highest whose section is at least 95 % of the largest; it passes above the
    orbits. Coronal: the largest section between 25 and 40 % of the upper head's depth, counted from the back.

    Raises:
        UserError: the mask is empty.
    """
    if not mask.any():
        raise UserError("the reference has no foreground, so there is no slice to draw; check the HR volume")
    r, a, s = grid.world_to_array()
    positive = {axis: bool(grid.affine[world, axis] > 0) for world, axis in enumerate((r, a, s))}
    head = mask.transpose(r, a, s)[:, :, :: -1 if positive[s] else 1]
    head = head[:, :: 1 if positive[a] else -1]
    areas = head.sum(axis=(0, 1))
    levels = np.flatnonzero(areas >= 0.05 * areas.max())
    top, half = int(levels[0]), max(1, len(levels) // 2)
    width = int(np.ptp(np.flatnonzero(head[:, :, top : top + half].any(axis=(1, 2)))) + 1) * grid.spacing[r]
    depth = int(np.clip(DEPTH_OF_HEAD_WIDTH * width / grid.spacing[s], 1, half))
    if s in degraded_axes:
        upper = head[:, :, top : top + max(2 * depth, 1)]
        sections = upper.sum(axis=(0, 2))
        filled = np.flatnonzero(sections)
        back, extent = int(filled[0]), int(filled[-1] - filled[0] + 1)
        low, high = (back + int(share * extent) for share in POSTERIOR_BAND)
        at = low + int(sections[low : high + 1].argmax())
        index = at if positive[a] else mask.shape[a] - 1 - at
        plane, through, rows = "Coronal", a, s
    else:
        first = top + depth // 4
        candidates = areas[first : max(top + depth, first + 1)]
        at = first + int(np.argmax(candidates >= FULL_SECTION * candidates.max()))
        index = mask.shape[s] - 1 - at if positive[s] else at
        plane, through, rows = "Axial", s, a
    spacing = (grid.spacing[rows], grid.spacing[r])
    full = (slice(None), slice(None))
    view = View(plane, through, index, rows, r, (positive[rows], positive[r]), spacing, full)
    return replace(view, window=foreground_window(view, mask))


def foreground_window(view: View, mask: Mask, margin_mm: float = 9.0) -> Window:
    """The mask's box in the slice with a margin; a coronal one ends one width below the top, where the neck begins."""
    image = view.whole(mask)
    bounds = []
    for axis in (0, 1):
        filled = np.flatnonzero(image.any(axis=1 - axis))
        margin = round(margin_mm / view.spacing[axis])
        bounds.append((max(0, int(filled[0]) - margin), min(image.shape[axis], int(filled[-1]) + 1 + margin)))
    (top, bottom), (left, right) = bounds
    if view.plane == "Coronal":
        bottom = min(bottom, top + max(1, round((right - left) * view.spacing[1] / view.spacing[0])))
    return slice(top, bottom), slice(left, right)


def _section(region: Mask) -> Mask:
    """``region`` and what it encloses along rows and columns: dark organs (lungs, bones) are no border of the body."""
    closed = np.ones_like(region)
    for axis in (0, 1):
        before = np.maximum.accumulate(region, axis=axis)
        behind = np.flip(np.maximum.accumulate(np.flip(region, axis), axis=axis), axis)
        closed &= before & behind
    return np.asarray(closed)


def choose_zoom(view: View, lost: Image, region: Mask, size: tuple[int, int]) -> tuple[int, int]:
    """First row and column of the box of ``size`` in which most energy of HR was lost, the rim left out.

    ``lost`` is the squared difference of HR and LR (linear) and ``region`` where it counts, both as images of ``view``.
    """
    from scipy import ndimage

    inside = np.pad(_section(region), 1)
    distance = ndimage.distance_transform_edt(inside, sampling=view.spacing)[1:-1, 1:-1]
    rim = RIM_OF_WIDTH * inside.shape[1] * view.spacing[1]
    energy = np.where(distance > min(rim, 0.5 * distance.max()), lost.astype(np.float64), 0.0)
    if not energy.any():
        energy = inside[1:-1, 1:-1].astype(np.float64)
    total = np.pad(energy.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    high, wide = size
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row), int(column)


def pixels_per_voxel(spacing: tuple[float, float], pixels_per_mm: float) -> tuple[int, int]:
    """Whole pixels per voxel along rows and columns, near ``pixels_per_mm`` and true to the voxel's shape."""
    best, chosen = np.inf, (1, 1)
    for wide in range(1, 129):
        high = max(1, round(wide * spacing[0] / spacing[1]))
        shape = abs(np.log(high * spacing[1] / (wide * spacing[0])))
        scale = abs(np.log(np.sqrt(high * wide / (spacing[0] * spacing[1])) / pixels_per_mm))
        if 4 * shape + scale < best:
            best, chosen = 4 * shape + scale, (high, wide)
    return chosen
