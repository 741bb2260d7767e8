"""Large arteries and venous sinuses of the head, stamped as antialiased tubes on the fine grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mrsr_bench.benchmarks.datasets.head_model import HeadFields

Path = npt.NDArray[np.float64]

ARTERIES: tuple[tuple[float, bool, tuple[tuple[float, float, float], ...]], ...] = (
    (1.7, False, ((0, -12, -43), (1, -9, -32), (0, -11, -18))),
    (1.5, True, ((13, -34, -78), (9, -26, -64), (5, -20, -54), (0, -12, -43))),
    (2.2, True, ((26, -10, -84), (25, -8, -60), (24, -6, -47), (15, 2, -37), (10, 9, -29), (11, 3, -21), (13, 3, -14))),
    (1.4, True, ((13, 3, -14), (24, 5, -15), (36, 3, -9))),
    (1.1, True, ((36, 3, -9), (39, -8, 3), (42, -20, 8), (50, -32, 12), (60, -40, 17))),
    (1.0, True, ((36, 3, -9), (38, 12, -4), (42, 14, -6), (54, 14, -7))),
    (1.1, True, ((13, 3, -14), (3, 13, -13), (1.2, 28, -8), (1.2, 37, 2), (1.2, 34, 18), (1.2, 20, 30), (1.2, -10, 34),
                 (1.2, -34, 32))),
    (1.2, True, ((0, -11, -18), (9, -14, -17), (19, -26, -12), (20, -38, -4), (14, -54, 2), (10, -70, 4))),
)  # fmt: skip
"""Radius (mm), whether there is one on each side, and the course in atlas coordinates."""

VEINS: tuple[tuple[float, bool, tuple[tuple[float, float, float], ...]], ...] = (
    (1.0, True, ((2, 2, 10), (2, -14, 13), (2, -28, 12), (0, -42, 7))),
    (1.9, False, ((0, -42, 7), (0, -66, -4), (0, -88, -8), (0, -102, -6))),
    (3.0, True, ((0, -102, -8), (16, -98, -12), (36, -86, -16), (51, -64, -20), (55, -48, -26), (46, -40, -40),
                 (34, -34, -54), (30, -28, -84))),
)  # fmt: skip


@dataclass(frozen=True)
class Vessels:
    """Opacity (0 to 255) of arteries and veins on the fine grid."""

    arteries: npt.NDArray[np.uint8]
    veins: npt.NDArray[np.uint8]


def draw_vessels(
    head: HeadFields, shape: tuple[int, int, int], origin: Sequence[float], spacing: Sequence[float]
) -> Vessels:
    """The vessels of ``head``; their courses wind a little, differently in every head."""
    rng = np.random.default_rng(head.anatomy.seed + 1)
    found = []
    for table in (ARTERIES, VEINS):
        covered = np.zeros(shape, dtype=np.uint8)
        courses = []
        for radius, paired, nodes in table:
            for side in (1, -1) if paired else (1,):
                course = _smooth(np.array(nodes, dtype=float) * (side, 1, 1))
                courses.append((radius * rng.uniform(0.85, 1.15), course + _wind(rng, len(course))))
        if table is VEINS:
            courses += _on_the_convexity(head, rng)
        for radius, course in courses:
            _stamp(covered, _to_world(head, course), radius, origin, spacing)
        found.append(covered)
    return Vessels(found[0], found[1])


def _smooth(nodes: Path, step: float = 0.6) -> Path:
    """A rounded course through ``nodes``, a point every ``step`` mm."""
    from scipy.ndimage import gaussian_filter1d

    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(nodes, axis=0), axis=1))])
    at = np.linspace(0, along[-1], int(along[-1] / step) + 2)
    course = np.stack([np.interp(at, along, node) for node in nodes.T], axis=1)
    rounded = gaussian_filter1d(course, 2.5 / step, axis=0, mode="nearest")
    rounded[[0, -1]] = course[[0, -1]]
    return np.asarray(rounded)


def _wind(rng: np.random.Generator, count: int) -> Path:
    """A random walk's smooth cousin, a millimetre or less, that vanishes at both ends."""
    place = np.linspace(0, 1, count)[:, None, None]
    waves = np.sin(np.pi * place * np.arange(1, 7)) * rng.standard_normal((1, 3, 6)) / np.arange(1, 7)
    return np.asarray(0.5 * waves.sum(axis=2))


def _on_the_convexity(head: HeadFields, rng: np.random.Generator) -> list[tuple[float, Path]]:
    """The superior sagittal sinus under the vault, and a few cortical veins that run up to it."""
    angles = np.radians(np.linspace(38, 190, 90))
    sinus = _under_vault(head, np.zeros(90), angles, depth=1.5)
    courses = [(2.6, sinus)]
    for side in (-1, 1):
        for start in rng.uniform(62, 150, 5):
            tilt = np.linspace(4, rng.uniform(28, 48), 60)
            drift = np.radians(start + (tilt - 4) * rng.uniform(-0.35, 0.35))
            courses.append((rng.uniform(0.7, 1.0), _under_vault(head, side * np.radians(tilt), drift, depth=1.0)))
    return courses


def _under_vault(head: HeadFields, tilt: npt.NDArray[np.float64], angle: npt.NDArray[np.float64], depth: float) -> Path:
    """Points ``depth`` mm inside the cavity on rays from its centre: ``angle`` from the front, ``tilt`` to the side."""
    centre = np.array([0.0, -15.0, 15.0])
    ray = np.stack([np.sin(tilt), np.cos(tilt) * np.cos(angle), np.cos(tilt) * np.sin(angle)], axis=1)
    reach = np.linspace(40, 105, 131)
    points = centre + reach[None, :, None] * ray[:, None, :]
    inside = _sample(head, "cavity", _to_world(head, points.reshape(-1, 3))).reshape(len(angle), -1)
    last = (inside > depth).sum(axis=1).clip(1, len(reach) - 1)
    from scipy.ndimage import gaussian_filter1d

    distance = gaussian_filter1d(reach[last - 1], 2.0, mode="nearest")
    return np.asarray(_smooth(centre + distance[:, None] * ray))


def _sample(head: HeadFields, field: str, world: Path) -> npt.NDArray[np.float64]:
    from scipy.ndimage import map_coordinates

    index = np.stack([(world[:, axis] - at[0]) / (at[1] - at[0]) for axis, at in enumerate(head.axes)])
    return np.asarray(map_coordinates(head.fields[field], index, order=1, mode="nearest", output=np.float64))


def _to_world(head: HeadFields, atlas: Path) -> Path:
    """Where atlas points (n, 3) lie in the world: the smooth warp undone by fixed-point iteration."""
    aim = atlas.copy()
    world = head.anatomy.world_point(aim)
    for _ in range(3):
        reached = np.stack([_sample(head, name, world) for name in "xyz"], axis=1)
        aim += np.clip(atlas - reached, -8, 8)
        world = head.anatomy.world_point(aim)
    return world


def _stamp(
    covered: npt.NDArray[np.uint8], world: Path, radius: float, origin: Sequence[float], spacing: Sequence[float]
) -> None:
    """Balls of ``radius`` mm along the course, opacity falling from 1 to 0 over one voxel."""
    fine = np.asarray(spacing)
    reach = np.ceil(radius / fine + 1).astype(int)
    soft = float(fine.mean())
    for place in (world - np.asarray(origin)) / fine:
        middle = np.round(place).astype(int)
        low, high = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, covered.shape)
        if (low >= high).any():
            continue
        offsets = [(np.arange(a, b) - p) * f for a, b, p, f in zip(low, high, place, fine, strict=True)]
        away = np.sqrt(offsets[0][:, None, None] ** 2 + offsets[1][None, :, None] ** 2 + offsets[2][None, None, :] ** 2)
        opacity = np.clip((radius - away) / soft + 0.5, 0, 1) * 255
        part = covered[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
        np.maximum(part, opacity.astype(np.uint8), out=part)
