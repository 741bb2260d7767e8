"""Regrid: a volume brought onto another grid, in world coordinates, sample centres to sample centres.

Every interpolation here is linear in the voxels, and on parallel axes separable, so it is one small matrix
per axis: exact (the spline matrices are what `scipy.ndimage.map_coordinates(mode="nearest")` does to unit
vectors), fast (matrix products), and the same code for nearest, area, linear, cubic, Lanczos and zero-filled
Fourier. Splines between grids that are not parallel go through `map_coordinates` itself.

``area`` is the mean over a voxel of an image that is constant within each source voxel: slices repeated, and shared
where a voxel lies across their border. Where no voxel does, it is ``nearest``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError
from mrsr_bench.volume import FloatArray, Grid, Volume

Interpolation = Literal["nearest", "area", "linear", "cubic", "lanczos", "zero_fill"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
SPLINE_ORDER: dict[str, int] = {"nearest": 0, "linear": 1, "cubic": 3}
Matrix = npt.NDArray[np.float64]

LANCZOS_LOBES = 3
_COORDINATE_DECIMALS = 7
"""Voxel coordinates are rounded so that affine arithmetic cannot tip a sample that lies exactly between two."""


def spline_matrix(coordinates: npt.NDArray[np.float64], size: int, order: int) -> Matrix:
    """Weights of a B-spline of ``order``, edges replicated: one row of ``size`` per coordinate (voxels)."""
    from scipy.ndimage import map_coordinates

    units = np.eye(size)
    return np.stack(
        [map_coordinates(unit, coordinates[None], order=order, mode="nearest", output=np.float64) for unit in units],
        axis=1,
    )


def area_matrix(coordinates: npt.NDArray[np.float64], size: int, step: float) -> Matrix:
    """The share of each of ``size`` voxels in voxels ``step`` wide around the coordinates, edges replicated."""
    low, high = coordinates[:, None] - step / 2, coordinates[:, None] + step / 2
    starts, stops = np.arange(size) - 0.5, np.arange(size) + 0.5
    starts[0], stops[-1] = -np.inf, np.inf
    return np.asarray(np.clip(np.minimum(high, stops) - np.maximum(low, starts), 0.0, None) / step)


def lanczos_matrix(coordinates: npt.NDArray[np.float64], size: int) -> Matrix:
    """Weights of a windowed sinc with three lobes, normalised to sum to one, edges replicated."""
    start = np.floor(coordinates).astype(int) - LANCZOS_LOBES + 1
    weights = np.zeros((len(coordinates), size))
    rows = np.arange(len(coordinates))
    for step in range(2 * LANCZOS_LOBES):
        at = start + step
        offset = coordinates - at
        value = np.where(np.abs(offset) < LANCZOS_LOBES, np.sinc(offset) * np.sinc(offset / LANCZOS_LOBES), 0.0)
        np.add.at(weights, (rows, np.clip(at, 0, size - 1)), value)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def fourier_matrix(coordinates: npt.NDArray[np.float64], size: int) -> Matrix:
    """Trigonometric interpolation of ``size`` periodic samples, the unpaired Nyquist bin shared as scipy does."""
    offset = (coordinates[:, None] - np.arange(size)[None, :] + size / 2) % size - size / 2
    angle = np.pi * offset / size
    near = np.abs(np.sin(angle)) < 1e-12
    safe = np.where(near, 1.0, angle)
    kernel = np.sin(size * safe) / (size * (np.tan(safe) if size % 2 == 0 else np.sin(safe)))
    return np.where(near, 1.0, kernel)


def interpolation_matrix(
    coordinates: npt.NDArray[np.float64], size: int, interpolation: Interpolation, step: float = 1.0
) -> Matrix:
    """The weights of any of `INTERPOLATIONS` along one axis: shape (coordinates, size).

    ``step``: the distance of two coordinates, a target voxel's width in source voxels; only ``area`` looks at it.
    """
    if interpolation == "area":
        return area_matrix(coordinates, size, abs(step))
    if interpolation == "lanczos":
        return lanczos_matrix(coordinates, size)
    if interpolation == "zero_fill":
        return fourier_matrix(coordinates, size)
    return spline_matrix(coordinates, size, SPLINE_ORDER[interpolation])


def multiply_axes(
    data: npt.NDArray[Any], matrices: Sequence[Matrix | None], dtype: type[np.floating[Any]]
) -> npt.NDArray[Any]:
    """Multiply each axis of ``data`` by its matrix in ``dtype``; None leaves an axis alone. Shrinking axes go first."""
    wanted = [(m.shape[0] / m.shape[1], axis, m) for axis, m in enumerate(matrices) if m is not None]
    for _, axis, matrix in sorted(wanted, key=lambda w: w[0]):
        moved = np.moveaxis(data, axis, 0)
        flat = np.ascontiguousarray(moved, dtype=dtype).reshape(moved.shape[0], -1)
        product = matrix.astype(dtype) @ flat
        data = np.moveaxis(product.reshape(matrix.shape[0], *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(data, dtype=dtype)


def apply_matrices(data: FloatArray, matrices: Sequence[Matrix | None]) -> FloatArray:
    """`multiply_axes` in float32."""
    return multiply_axes(data, matrices, np.float32)


def parallel_axes(source: Grid, target: Grid) -> tuple[tuple[int, int, int], Matrix] | None:
    """Which source axis each target axis runs along, and the target-to-source voxel map; None if not parallel."""
    change = np.linalg.inv(source.affine) @ target.affine
    linear = change[:3, :3]
    columns = np.abs(linear)
    axes = columns.argmax(axis=0)
    if len(set(axes.tolist())) != 3:
        return None
    off = columns.copy()
    off[axes, np.arange(3)] = 0
    reach = (off * (np.array(target.shape) - 1)).max()
    if reach > 1e-3:
        return None
    return (int(axes[0]), int(axes[1]), int(axes[2])), change


def regrid(volume: Volume, target: Grid, interpolation: Interpolation) -> Volume:
    """``volume`` on the grid ``target``; beyond its edge voxels the edge is repeated (Fourier: periodic).

    Between grids whose axes are not parallel ``area`` takes the nearest voxel.

    Raises:
        UserError: Lanczos or zero-filled Fourier was asked for between grids whose axes are not parallel.
    """
    source = volume.grid
    if source.same_as(target, tolerance=1e-6):
        return volume.with_data(volume.data, target)
    parallel = parallel_axes(source, target)
    if parallel is None:
        return volume.with_data(_regrid_oblique(volume, target, interpolation), target)
    axes, change = parallel
    matrices: list[Matrix | None] = []
    for target_axis, source_axis in enumerate(axes):
        size, count = source.shape[source_axis], target.shape[target_axis]
        step, start = change[source_axis, target_axis], change[source_axis, 3]
        coordinates = np.round(start + step * np.arange(count), _COORDINATE_DECIMALS)
        same = size == count and np.array_equal(coordinates, np.arange(count))
        matrices.append(None if same else interpolation_matrix(coordinates, size, interpolation, step))
    data = apply_matrices(volume.data.transpose(axes), matrices)
    return volume.with_data(data, target)


def _regrid_oblique(volume: Volume, target: Grid, interpolation: Interpolation) -> FloatArray:
    from scipy.ndimage import map_coordinates, spline_filter

    if interpolation == "area":
        interpolation = "nearest"
    if interpolation not in SPLINE_ORDER:
        raise UserError(
            f"{interpolation} needs grids with parallel axes; use nearest, linear or cubic between oblique grids"
        )
    order = SPLINE_ORDER[interpolation]
    change = np.linalg.inv(volume.affine) @ target.affine
    pad = 12 if order > 1 else 0
    data = volume.data.astype(np.float64)
    if pad:
        data = spline_filter(np.pad(data, pad, mode="edge"), order, mode="nearest")
    out = np.empty(target.shape, dtype=np.float32)
    plane = np.indices(target.shape[1:], dtype=np.float64).reshape(2, -1)
    for index in range(target.shape[0]):
        voxel = np.vstack([np.full(plane.shape[1], float(index)), plane, np.ones(plane.shape[1])])
        coordinates = (change @ voxel)[:3] + pad
        out[index] = map_coordinates(data, coordinates, order=order, mode="nearest", prefilter=False).reshape(
            target.shape[1:]
        )
    return out
