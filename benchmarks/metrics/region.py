"""Where scores are taken, and the intensity range they refer to: mask, hull, region, as the protocol defines them.

mask: HR > 0.1 q, closed with a ball of 2 voxels, largest 26-connected component, holes filled. hull: HR voxels between
the first and the last LR sample centre along each degraded axis. region: both. q: 99.9th percentile of the voxels above
the mean.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mrsr_bench import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import FloatArray, Grid, Volume

    Mask = npt.NDArray[np.bool_]
    Box = tuple[slice, slice, slice]

PERCENTILE = 99.9
THRESHOLD = 0.1
_CLOSING_RADIUS = 2
_AT_A_SAMPLE = 1e-4
"""Voxels: an HR voxel this close to the outermost LR sample centre lies on it (affines are stored as float32)."""
_EQUAL_SPACING = 1e-3


@dataclass(frozen=True, eq=False)
class Reference:
    """What SR is compared with: HR, its range q, and the voxels that count.

    ``mask`` is the foreground, ``region`` the foreground inside the hull (both of HR's shape); ``degraded_axes`` are
    array axes of HR. Without ``is_hr``, ``hr`` is only LR brought to the target grid, and nothing may be compared with
    it.
    """

    hr: Volume
    range: float
    mask: Mask
    region: Mask
    mask_sha256: str
    degraded_axes: tuple[int, ...]
    is_hr: bool = True


def intensity_range(data: FloatArray) -> float:
    """q: the 99.9th percentile of the voxels above the mean (linear interpolation); of LR it is the scale c.

    Raises:
        UserError: the image is empty or constant, or its bright voxels are not positive.
    """
    import numpy as np

    if data.size == 0 or data.min() == data.max():
        what = "empty" if data.size == 0 else f"constant ({float(data.flat[0]):g} everywhere)"
        raise UserError(f"the image is {what}, so it has no intensity range; expected an image with contrast")
    bright = data[data > data.mean(dtype=np.float64)]
    q = float(np.percentile(bright, PERCENTILE)) if bright.size else math.nan
    if not q > 0:
        raise UserError(
            f"the bright voxels of the image are not positive ({PERCENTILE}th percentile above the mean: {q:g}); "
            "shift its intensities above zero first (CT: add 1024 HU)"
        )
    return q


def bounding_box(mask: Mask) -> Box:
    """The smallest box that holds every true voxel; ``mask`` must have one."""
    import numpy as np

    box = []
    for axis in range(3):
        along = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    return (box[0], box[1], box[2])


def foreground_mask(data: FloatArray, q: float) -> Mask:
    """The head: voxels above 0.1 q, closed (ball of 2 voxels), largest 26-connected component, holes filled.

    Raises:
        UserError: no voxel lies above 0.1 q.
    """
    import numpy as np
    from scipy.ndimage import generate_binary_structure, label

    mask = np.zeros(data.shape, dtype=bool)
    bright = data > THRESHOLD * q
    if not bright.any():
        raise UserError(
            f"no voxel lies above {THRESHOLD} of the intensity range {q:g}, so there is no foreground to score"
        )
    box = bounding_box(bright)
    closed = _closed(bright[box])
    labels, _ = label(closed, generate_binary_structure(3, 3))
    largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
    component = labels == largest
    inner = bounding_box(component)
    background, _ = label(~np.pad(component[inner], 1))
    filled = background != background[0, 0, 0]
    mask[box][inner] = filled[1:-1, 1:-1, 1:-1]
    return mask


def _closed(mask: Mask) -> Mask:
    """Closing with a ball of 2 voxels on an infinite grid; it never leaves the bounding box of ``mask``."""
    import numpy as np

    pad = _CLOSING_RADIUS
    closed = ~_dilated(~_dilated(np.pad(mask, pad)))
    return closed[pad:-pad, pad:-pad, pad:-pad]


def _dilated(mask: Mask) -> Mask:
    """Dilation with x² + y² + z² <= 4, which is the 3x3x3 cube and the six voxels two steps along an axis."""
    out = mask
    for axis in range(3):
        grown = out.copy()
        _or_shifted(grown, out, axis, 1)
        out = grown
    for axis in range(3):
        _or_shifted(out, mask, axis, 2)
    return out


def _or_shifted(out: Mask, mask: Mask, axis: int, step: int) -> None:
    front = tuple(slice(step, None) if a == axis else slice(None) for a in range(3))
    back = tuple(slice(None, -step) if a == axis else slice(None) for a in range(3))
    out[front] |= mask[back]
    out[back] |= mask[front]


def degraded_axes(hr_grid: Grid, lr: Volume) -> tuple[int, ...]:
    """HR's array axes along which LR has another spacing or was not fully acquired.

    Raises:
        UserError: the axes of LR and HR are not parallel.
    """
    axes, _ = _parallel(hr_grid, lr.grid)
    return tuple(
        axis
        for axis, lr_axis in enumerate(axes)
        if abs(lr.spacing[lr_axis] / hr_grid.spacing[axis] - 1) > _EQUAL_SPACING
        or lr.acquisition[lr_axis].kind != "full"
    )


def hull(hr_grid: Grid, lr_grid: Grid, degraded: Sequence[int]) -> Box:
    """HR voxels between the first and the last LR sample centre along each of the ``degraded`` axes of HR.

    Raises:
        UserError: the axes of LR and HR are not parallel, or no HR voxel lies between LR's samples.
    """
    axes, lr_from_hr = _parallel(hr_grid, lr_grid)
    box = []
    for axis, lr_axis in enumerate(axes):
        size = hr_grid.shape[axis]
        if axis not in degraded:
            box.append(slice(0, size))
            continue
        step, start = lr_from_hr[lr_axis, axis], lr_from_hr[lr_axis, 3]
        ends = sorted(((0 - start) / step, (lr_grid.shape[lr_axis] - 1 - start) / step))
        first = max(0, math.ceil(ends[0] - _AT_A_SAMPLE))
        last = min(size - 1, math.floor(ends[1] + _AT_A_SAMPLE))
        if last < first:
            raise UserError(
                f"no HR voxel lies between the first and last LR sample along axis {axis}; the images do not overlap"
            )
        box.append(slice(first, last + 1))
    return (box[0], box[1], box[2])


def _parallel(hr_grid: Grid, lr_grid: Grid) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """LR's axis along each axis of HR, and the map from HR voxels to LR voxels."""
    from mrsr_bench.zoo.regrid import parallel_axes

    found = parallel_axes(lr_grid, hr_grid)
    if found is None:
        raise UserError(
            "the axes of LR and HR are not parallel, so scores have no hull; regrid one onto the other's axes"
        )
    return found


def reference_of(hr: Volume, lr: Volume | None = None) -> Reference:
    """HR with its range, mask, hull and region; without ``lr`` no axis counts as degraded and the hull is everything.

    Raises:
        UserError: HR is constant, empty or not positive, LR and HR are not parallel, or the region is empty.
    """
    import numpy as np

    q = intensity_range(hr.data)
    mask = foreground_mask(hr.data, q)
    degraded = degraded_axes(hr.grid, lr) if lr is not None else ()
    region = mask
    if lr is not None:
        box = hull(hr.grid, lr.grid, degraded)
        region = np.zeros_like(mask)
        region[box] = mask[box]
        if not region.any():
            raise UserError("no foreground lies between the first and last LR samples, so there is nothing to score")
    return Reference(hr, q, mask, region, mask_sha256(mask), degraded)


def mask_sha256(mask: Mask) -> str:
    """SHA-256 of the mask's shape and of its voxels packed to bits in C order."""
    import numpy as np

    digest = hashlib.sha256("x".join(map(str, mask.shape)).encode())
    digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


def slice_axis(shape: Sequence[int], degraded: Sequence[int], *, whole_plane: bool) -> int:
    """The axis that slices are stacked along, so that their plane is the largest that holds a degraded axis.

    ``whole_plane``: if exactly two axes are degraded, their own plane instead. Among equally large planes the one
    with more degraded axes, then the lowest stacking axis. Nothing degraded: the largest plane.
    """
    if whole_plane and len(degraded) == 2:
        return next(axis for axis in range(3) if axis not in degraded)

    def preference(axis: int) -> tuple[int, int, int]:
        plane = [other for other in range(3) if other != axis]
        return shape[plane[0]] * shape[plane[1]], len(set(plane) & set(degraded)), -axis

    candidates = [axis for axis in range(3) if not degraded or set(degraded) - {axis}]
    return max(candidates, key=preference)


def foreground_slices(mask: Mask, axis: int, share: float = 0.25) -> list[int]:
    """Indices along ``axis`` of the slices whose foreground covers more than ``share`` of the slice."""
    covered = mask.mean(axis=tuple(other for other in range(3) if other != axis))
    return [index for index, value in enumerate(covered) if value > share]
