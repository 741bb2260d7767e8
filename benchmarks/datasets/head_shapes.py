"""Shapes and smooth random fields that the procedural head is made of.

A shape is a signed distance function, positive inside, evaluated at points ``(x, y, z)`` given as three arrays (mm).
Ellipsoids use the usual first-order distance, exact on the surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Points = tuple[Array, Array, Array]
Point = tuple[float, float, float]

_LATTICE_MM = 320.0
"""Side of the cube, centred on the world's origin, that random fields are defined on."""

_UNIT_VARIANCE = (151 / 315) ** -1.5
"""Mean over a cell of the sum of squared cubic B-splines is 151/315 per axis."""


def ellipsoid(points: Points, centre: Point, radii: Point, pitch: float = 0.0, yaw: float = 0.0) -> Array:
    """Signed distance to an ellipsoid; degrees: ``pitch`` turns it about x (front up), ``yaw`` about z."""
    x, y, z = (p - np.float32(c) for p, c in zip(points, centre, strict=True))
    if yaw:
        c, s = np.float32(np.cos(np.radians(yaw))), np.float32(np.sin(np.radians(yaw)))
        x, y = c * x - s * y, s * x + c * y
    if pitch:
        c, s = np.float32(np.cos(np.radians(pitch))), np.float32(np.sin(np.radians(pitch)))
        y, z = c * y + s * z, c * z - s * y
    rx, ry, rz = (np.float32(r) for r in radii)
    scaled = np.sqrt((x / rx) ** 2 + (y / ry) ** 2 + (z / rz) ** 2)
    slope = np.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2 + (z / rz**2) ** 2)
    return np.asarray((1 - scaled) * scaled / np.maximum(slope, np.float32(1e-4)), dtype=np.float32)


def tube(points: Points, path: Sequence[Point], radii: Sequence[float], squeeze: Point = (1, 1, 1)) -> Array:
    """Signed distance to a chain of round cones along ``path``; ``squeeze`` above 1 flattens it along that axis."""
    x, y, z = (p * np.float32(q) for p, q in zip(points, squeeze, strict=True))
    nodes = np.asarray(path, dtype=np.float32) * np.asarray(squeeze, dtype=np.float32)
    inside: Array | None = None
    for (a, b), (ra, rb) in zip(pairwise(nodes), pairwise(radii), strict=True):
        d = b - a
        along = ((x - a[0]) * d[0] + (y - a[1]) * d[1] + (z - a[2]) * d[2]) / np.float32(d @ d)
        along = np.clip(along, 0, 1)
        away = np.sqrt((x - a[0] - along * d[0]) ** 2 + (y - a[1] - along * d[1]) ** 2 + (z - a[2] - along * d[2]) ** 2)
        piece = np.float32(ra) + along * np.float32(rb - ra) - away
        inside = piece if inside is None else union(inside, piece, 2.0)
    if inside is None:
        raise ValueError("a tube needs two points")
    return inside


def union(a: Array, b: Array, blend: float = 0.0) -> Array:
    """Both shapes, the seam rounded over ``blend`` mm (polynomial smooth maximum)."""
    if not blend:
        return np.maximum(a, b)
    near = np.maximum(np.float32(blend) - np.abs(a - b), 0)
    return np.asarray(np.maximum(a, b) + near * near * np.float32(0.25 / blend), dtype=np.float32)


def meet(a: Array, b: Array, blend: float = 0.0) -> Array:
    """What lies in both shapes."""
    return -union(-a, -b, blend)


def without(a: Array, b: Array, blend: float = 0.0) -> Array:
    """``a`` with ``b`` carved out."""
    return meet(a, -b, blend)


def smooth_field(rng: np.random.Generator, axes: Sequence[npt.NDArray[np.float64]], scale: float) -> Array:
    """Gaussian random field, unit variance (about), correlation length ``scale`` mm, at the world points of ``axes``.

    Cubic B-splines with white-noise coefficients on a lattice fixed in the world: the same field whatever the grid.
    """
    count = int(_LATTICE_MM / scale) + 4
    noise: npt.NDArray[Any] = rng.standard_normal((count, count, count), dtype=np.float32)
    for axis, at in enumerate(axes):
        index = np.clip((at + _LATTICE_MM / 2) / scale + 1.5, 1.0, count - 2.001)
        weights = _cubic_weights(index, count)
        noise = np.moveaxis(np.tensordot(weights, noise, axes=(1, axis)), 0, axis)
    return np.asarray(noise * np.float32(_UNIT_VARIANCE), dtype=np.float32)


def _cubic_weights(index: npt.NDArray[np.float64], count: int) -> Array:
    """Cubic B-splines centred on ``0..count - 1`` at ``index``: one row per point."""
    away = np.abs(index[:, None] - np.arange(count))
    near, far = 2 / 3 - away**2 + away**3 / 2, np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far).astype(np.float32)


class StripeNoise:
    """Narrow-band periodic noise: its zero lines meander at half a wavelength from each other, as sulci do."""

    size, spacing = 80, 3.0

    def __init__(self, rng: np.random.Generator, wavelength: float, bandwidth: float = 0.18) -> None:
        from scipy.fft import irfftn, rfftn
        from scipy.ndimage import spline_filter

        shape = (self.size,) * 3
        full = np.fft.fftfreq(self.size, self.spacing)
        half = np.fft.rfftfreq(self.size, self.spacing)
        radius = np.sqrt(full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2)
        centre = 1 / wavelength
        shell = np.exp(-0.5 * ((radius - centre) / (bandwidth * centre)) ** 2).astype(np.float32)
        table = irfftn(rfftn(rng.standard_normal(shape, dtype=np.float32)) * shell, shape)
        self.wavelength = wavelength
        self._spline = spline_filter(table / table.std(), 3, mode="grid-wrap", output=np.float32)

    def at(self, points: Points) -> Array:
        """Values at ``points``."""
        from scipy.ndimage import map_coordinates

        index = np.stack([p.ravel() / np.float32(self.spacing) + self.size / 2 for p in points])
        values = map_coordinates(self._spline, index, order=3, mode="grid-wrap", prefilter=False, output=np.float32)
        return np.asarray(values.reshape(points[0].shape), dtype=np.float32)

    def signed_distance(self, points: Points, step: Point) -> Array:
        """Signed distance (mm) to the nearest zero surface, at most a quarter wave; ``step``: mm between points."""
        value = self.at(points)
        slope = np.gradient(value, *step)
        wave = 2 * np.pi / self.wavelength
        steepness = np.sqrt(sum(s * s for s in slope) + 1e-6)
        return np.asarray(np.arctan2(wave * value, steepness) / wave, dtype=np.float32)
