"""The procedural head: random anatomy and its surfaces as smooth fields on a 2 mm lattice.

Coordinates are those of the stereotaxic atlases (mm, right-anterior-superior, anterior commissure at the origin, a
large adult brain); a subject is that frame scaled, turned, shifted and smoothly warped. Every field is smooth enough
for cubic splines; what has creases (sulci, folia, midline) is put together from them when rendered.

Sulci are sheets below the zero lines of narrow-band noise on the surface of the hull, carried inwards along its normal,
each with its own depth; the cortical ribbon is what lies within cortical thickness of cerebrospinal fluid. That yields
gyral blades of white matter, even grey ribbons and crowns that fill the skull, which bumps on a sphere do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mrsr_bench.benchmarks.datasets.head_shapes import (
    Array,
    Point,
    Points,
    StripeNoise,
    ellipsoid,
    meet,
    smooth_field,
    tube,
    union,
    without,
)

LATTICE_MM = 2.0
HEAD_CENTRE: Point = (0.0, -15.5, 10.0)
"""Centre of the field of view in the world (mm), the anterior commissure of an unshifted head being its origin."""

Axes = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Anatomy:
    """What differs from head to head; lengths in mm, angles in degrees."""

    scale: Point
    rotation: Point
    shift: Point
    warp: float
    fold: float
    sulcus: float
    cortex: float
    atrophy: float
    ventricle: float
    skull: float
    scalp: float
    seed: int

    @staticmethod
    def draw(rng: np.random.Generator) -> Anatomy:
        """A random adult."""
        size = rng.normal(0.882, 0.01)
        age = rng.uniform(0, 1)
        return Anatomy(
            scale=(
                float(np.clip(size * rng.normal(1, 0.012), 0.85, 0.905)),
                float(np.clip(size * rng.normal(0.985, 0.01), 0.845, 0.88)),
                float(np.clip(size * rng.normal(1.01, 0.015), 0.85, 0.92)),
            ),
            rotation=(float(rng.uniform(-5, 5)), float(rng.uniform(-3, 3)), float(rng.uniform(-4, 4))),
            shift=(float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-1.5, 1.5)), float(rng.uniform(-3, 3))),
            warp=float(rng.uniform(1.2, 2.0)),
            fold=float(rng.uniform(24, 27.5)),
            sulcus=float(0.2 + 0.3 * age + rng.uniform(0, 0.15)),
            cortex=float(rng.uniform(2.3, 2.55) - 0.2 * age),
            atrophy=float(0.7 * age),
            ventricle=float(0.1 + 1.9 * age + rng.normal(0, 0.4)),
            skull=float(rng.uniform(5.5, 7.5)),
            scalp=float(rng.uniform(4.0, 6.0)),
            seed=int(rng.integers(2**31)),
        )

    def head_points(self, axes: Axes) -> Points:
        """World points of the lattice in the frame of the atlas, before the warp."""
        turn = _rotation(self.rotation)
        x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
        x, y, z = (p - d - c for p, d, c in zip((x, y, z), self.shift, HEAD_CENTRE, strict=True))
        found = [
            ((turn[0, axis] * x + turn[1, axis] * y + turn[2, axis] * z + HEAD_CENTRE[axis]) / self.scale[axis]).astype(
                np.float32
            )
            for axis in range(3)
        ]
        return (found[0], found[1], found[2])

    def world_point(self, point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Atlas points (n, 3) in the world, the warp neglected."""
        centre = np.array(HEAD_CENTRE)
        turned = (point * np.array(self.scale) - centre) @ _rotation(self.rotation).T
        return np.asarray(turned + centre + np.array(self.shift))

    @property
    def mean_scale(self) -> float:
        """Millimetres in the world per millimetre of the atlas."""
        return float(np.mean(self.scale))


def _rotation(degrees: Point) -> npt.NDArray[np.float64]:
    """Turn about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


@dataclass(frozen=True)
class HeadFields:
    """Fields over the lattice ``axes`` (world mm), by name: signed distances (atlas mm, positive inside), but for

    ``x y z``: the warped atlas coordinates; ``sulcus_1`` and ``sulcus_2``: signed distance to the sulcal sheets;
    ``below_1`` and ``below_2``: how far below their floor; ``thickness``: of the cortex; ``folia``,
    ``wander``: smooth noise; ``gain``: receive sensitivity and texture, a factor.
    """

    axes: Axes
    fields: dict[str, Array]
    anatomy: Anatomy


def build_fields(anatomy: Anatomy, low: Point, high: Point) -> HeadFields:
    """All fields of a head over the box from ``low`` to ``high`` (world mm)."""
    axes = tuple(
        LATTICE_MM * np.arange(np.floor(a / LATTICE_MM) - 1, np.ceil(b / LATTICE_MM) + 2)
        for a, b in zip(low, high, strict=True)
    )
    lattice: Axes = (axes[0], axes[1], axes[2])
    rng = np.random.default_rng(anatomy.seed)
    points = anatomy.head_points(lattice)
    for coordinate in points:
        coordinate += np.float32(anatomy.warp) * smooth_field(rng, lattice, 42.0)
        coordinate += np.float32(0.45) * smooth_field(rng, lattice, 16.0)
    step = LATTICE_MM / anatomy.mean_scale
    fields: dict[str, Array] = {"x": points[0], "y": points[1], "z": points[2]}
    mirrored = (np.sqrt(points[0] ** 2 + 1), points[1], points[2])
    fields.update(_deep_structures(anatomy, mirrored))
    core = union(union(fields["putamen"], fields["thalamus"]), union(fields["caudate"], fields["ventricle"]))
    fields.update(_brain(rng, anatomy, points, mirrored, core, lattice, step))
    fields.update(_skull_and_scalp(rng, anatomy, mirrored, fields, lattice))
    falx = meet(meet(-4 - fields["commissure"], points[2] + 0.25 * points[1] + 10), fields["cavity"] + 1)
    tentorium = meet(fields["cerebrum"] + 3.2, 5 - np.abs(fields["cerebellum"] + 1.1))
    fields.update({"falx": meet(falx, 5 - np.abs(points[0])), "tentorium": tentorium})
    fields["gain"] = _gain(rng, lattice, low, high)
    return HeadFields(lattice, {name: np.ascontiguousarray(f, dtype=np.float32) for name, f in fields.items()}, anatomy)


def _brain(
    rng: np.random.Generator, anatomy: Anatomy, points: Points, mirrored: Points, core: Array, axes: Axes, step: float
) -> dict[str, Array]:
    x, y, z = points
    steps = (step, step, step)
    vermis = ellipsoid(mirrored, (0, -61, -29), (15, 23, 20))
    cerebellum = union(ellipsoid(mirrored, (24, -62, -37.5), (28, 29, 22), pitch=-8), vermis, 8)
    stem = union(
        union(
            ellipsoid(mirrored, (0, -27, -9), (18, 10, 13), pitch=-20),
            ellipsoid(mirrored, (0, -22.5, -30), (17, 12.5, 13.5)),
            5,
        ),
        tube(mirrored, [(0, -30, -38), (0, -39, -52), (0, -46, -70), (0, -48, -110)], [11, 8, 6.5, 6]),
        6,
    )
    peduncle = tube(mirrored, [(9, -26, -30), (20, -46, -38)], [7, 6])
    stem = union(stem, peduncle, 4)

    hull = ellipsoid(mirrored, (19, -17, 24), (48, 86, 52))
    hull = union(hull, ellipsoid(mirrored, (21, -74, 4), (29, 32, 25)), 10)
    temporal = ellipsoid(mirrored, (45, -14, -21), (21, 42, 21), pitch=-14, yaw=8)
    hull = union(hull, temporal, 5)
    hull = without(hull, ellipsoid(mirrored, (0, -6, -27), (16, 19, 12.5)), 5)
    hull = without(hull, cerebellum + 2.2, 3)
    hull = without(hull, ellipsoid(mirrored, (0, -38, -22), (22, 12, 14)), 4)

    commissure = union(
        ellipsoid((np.zeros_like(x), y, z), (0, -6, 2), (50, 37, 27)),
        meet(12 - np.abs(y + 18), -z, 3),
        6,
    )
    inside = np.maximum(commissure, 0)
    medial = np.sqrt(x * x + inside * inside)
    depth = -union(-hull, -medial, 20)
    slope = np.asarray(np.gradient(depth, *steps))
    slope /= np.maximum(np.sqrt((slope**2).sum(axis=0)), 0.3)
    bend = [np.float32(3.0) * smooth_field(rng, axes, 14.0) for _ in range(3)]
    reach = np.clip(depth, -4, 30)
    foot = (
        x - reach * slope[0] + bend[0],
        y - reach * slope[1] + bend[1],
        z - reach * slope[2] + bend[2],
    )
    first = StripeNoise(rng, anatomy.fold, 0.16).signed_distance(foot, steps)
    second = StripeNoise(rng, anatomy.fold * 0.78, 0.2).signed_distance(foot, steps)
    floor_1 = np.clip(18 + 5 * smooth_field(rng, axes, 15.0), 6, 25)
    floor_2 = np.clip(4 + 5 * smooth_field(rng, axes, 11.0), -2, 13)
    shallow = 1 - np.float32(0.45) * np.clip(slope[2], 0, 1)
    return {
        "cerebrum": hull,
        "commissure": commissure,
        "sulcus_1": first,
        "below_1": union(depth - shallow * floor_1, core + 4, 3),
        "sulcus_2": second,
        "below_2": union(depth - shallow * floor_2, core + 4, 3),
        "thickness": anatomy.cortex / anatomy.mean_scale * (1 + 0.09 * smooth_field(rng, axes, 12.0)),
        "cerebellum": cerebellum,
        "folia": 1.1 * smooth_field(rng, axes, 9.0),
        "wander": smooth_field(rng, axes, 13.0),
        "stem": stem,
    }


def _deep_structures(anatomy: Anatomy, points: Points) -> dict[str, Array]:
    wide = np.float32(anatomy.ventricle)
    caudate = tube(
        points,
        [(13, 20, -2), (14, 16, 8), (16, 4, 16), (20, -16, 21), (27, -34, 15)],
        [5.5, 6.0, 4.2, 2.6, 1.4],
        (1.1, 1, 1),
    )
    thalamus = ellipsoid(points, (11.5, -19, 7), (8.5, 15, 8.5), pitch=8, yaw=-24)
    putamen = ellipsoid(points, (26.5, 3, 1), (5.6, 16.5, 11), yaw=-14)
    pallidum = ellipsoid(points, (19.5, -3, -1), (4.2, 10, 6.5), yaw=-26)
    horns = tube(
        points,
        [(11.5, 33, 2), (9, 20, 10), (7.5, 2, 19), (12, -20, 23), (21, -38, 17)],
        [3.2, 4.2, 3.8, 4.0, 5.2],
        (1, 1, 1.05),
    )
    atrium = tube(points, [(21, -38, 17), (25, -48, 10), (24, -62, 6), (21, -76, 5)], [5.2, 5.0, 3.0, 0.8])
    temporal_horn = tube(points, [(25, -46, 8), (33, -36, -5), (34, -20, -16), (29, -10, -20)], [4.4, 2.0, 1.6, 1.4])
    ventricle = union(union(horns, atrium, 4) + wide, temporal_horn + 0.4 * wide, 3)
    ventricle = without(ventricle, union(caudate, thalamus) + 0.4, 1.5)
    third = ellipsoid(points, (0, -10, 0), (2.0 + 0.7 * max(anatomy.ventricle, 0), 16, 10.5), pitch=14)
    fourth = ellipsoid(points, (0, -42, -33), (7, 4.5, 11), pitch=-12)
    aqueduct = tube(points, [(0, -30, -5), (0, -34, -14), (0, -40, -26)], [1.3, 1.2, 1.4])
    hippocampus = tube(
        points, [(23, -8, -20), (27, -16, -19), (30, -28, -10), (24, -38, 1)], [6.2, 4.6, 4.0, 2.4], (1, 1, 1.15)
    )
    nigra = ellipsoid(points, (10, -19, -12), (6, 3, 3.2), yaw=-30)
    red = ellipsoid(points, (5.5, -21, -8), (3, 3.2, 3.4))
    x, y, z = points
    flat = np.zeros_like(x)
    arch = ellipsoid((flat, y, z), (0, -6, 2), (50, 37, 27))
    bore = ellipsoid((flat, y, z), (0, -5, -1), (50, 28, 23))
    callosum = without(arch - 0.8, bore, 2)
    callosum = meet(meet(callosum, z - (2 - 0.15 * y), 3), np.float32(24) - x, 4)
    fornix = tube(
        points, [(2, 4, 2), (2, 0, 10), (2.5, -14, 18), (5, -28, 17), (14, -38, 9)], [2.0, 2.0, 2.0, 2.0, 1.6]
    )
    choroid = tube(points, [(9, -12, 18), (14, -28, 19), (22, -42, 12), (24, -48, 7)], [0.9, 1.4, 2.6, 1.6])
    return {
        "caudate": caudate,
        "thalamus": thalamus,
        "putamen": putamen,
        "pallidum": pallidum,
        "ventricle": ventricle,
        "third": union(union(third, fourth, 1), aqueduct, 1),
        "hippocampus": hippocampus,
        "nigra": union(nigra, red),
        "callosum": callosum,
        "fornix": fornix,
        "choroid": choroid,
    }


def _skull_and_scalp(
    rng: np.random.Generator, anatomy: Anatomy, points: Points, brain: dict[str, Array], axes: Axes
) -> dict[str, Array]:
    x, y, z = points
    scale = anatomy.mean_scale
    full = union(union(brain["cerebrum"] + 1.5, brain["cerebellum"] + 2.5, 22), brain["stem"] + 4.5, 16)
    full = union(
        full, union(ellipsoid(points, (0, -17, 26), (60, 87, 51)), ellipsoid(points, (0, -62, -2), (50, 43, 26)), 8), 8
    )
    cavity = full + anatomy.atrophy
    canal = tube(points, [(0, -43, -56), (0, -47, -80), (0, -48, -120)], [13, 10.5, 10])
    cavity = union(meet(cavity, z + 66, 6), canal, 5)
    sella = tube(points, [(0, 12, -33), (0, 6, -34), (0, -12, -62)], [9, 10, 8])
    petrous = tube(points, [(12, -10, -40), (34, -26, -38), (58, -34, -40)], [6, 8, 12])
    petrous = union(petrous, tube(points, [(17, -16, -52), (36, -28, -54), (52, -36, -54)], [8, 11, 13]), 4)
    brain_below = union(union(brain["cerebrum"], brain["cerebellum"]), brain["stem"] - 2)
    cavity = without(cavity, without(union(sella, petrous, 4), brain_below + 2, 2), 2)
    vault = np.float32(anatomy.skull / scale) + 0.9 * smooth_field(rng, axes, 36.0)
    skull = cavity + vault
    occiput = ellipsoid(points, (0, -100, -22), (12, 10, 10))
    skull = union(skull, occiput, 8)
    spine = union(ellipsoid(points, (0, -25, -82), (11, 9, 24)), ellipsoid(points, (22, -38, -78), (12, 10, 9)), 4)
    base = union(union(sella, petrous, 4), spine, 2)
    base = without(base, cavity + 0.5, 1)
    marrow = union(meet(skull, -cavity, 0) - 1.9, base - 1.8, 1)

    scalp = np.float32(anatomy.scalp / scale) + 0.8 * smooth_field(rng, axes, 40.0)
    flank = np.exp(-(((y - 12) / 30) ** 2) - ((z + 6) / 30) ** 2) * np.clip((x - 30) / 25, 0, 1)
    skin = skull + scalp + 7 * flank
    neck = meet(ellipsoid((x, y, np.zeros_like(z)), (0, -46, 0), (60, 58, 400)), -28 - z, 12)
    face = ellipsoid(points, (0, 22, -56), (65, 55, 64))
    skin = union(union(skin, neck, 16), union(face, ellipsoid(points, (31, 47, -30), (17, 17, 16)), 6), 14)

    streaks = StripeNoise(rng, 26.0, 0.3).signed_distance((x, y, 0.3 * z), (LATTICE_MM,) * 3)
    low = union(-34 - z - np.float32(0.12) * y, np.float32(14) * flank - 7, 3)
    fat = np.float32(4.5) + np.float32(1.5) * smooth_field(rng, axes, 30.0)
    muscle = meet(meet(skin - fat, low, 3), np.abs(streaks) - np.float32(0.35), 0.5)
    muscle = meet(muscle, -skull - 0.6, 0)
    air = ellipsoid(points, (0, 44, -44), (12, 26, 17))
    air = union(air, ellipsoid(points, (5, 44, -26), (7, 18, 9)), 3)
    air = union(air, ellipsoid(points, (30, 38, -52), (12, 14, 15)), 1)
    air = union(air, ellipsoid(points, (5.5, 13, -34), (7, 9, 7)), 1)
    air = union(air, tube(points, [(0, 14, -52), (0, 0, -66), (0, -2, -110)], [8, 8, 9]), 3)
    air = union(air, ellipsoid(points, (10, 69, 2), (9, 3.0, 9)), 1)
    cells = ellipsoid(points, (56, -32, -42), (8, 11, 12))
    air = union(air, meet(cells, smooth_field(rng, axes, 5.0) * 3, 1), 0)
    air = meet(meet(air, skin - 5, 2), -cavity - 2.5, 1)
    concha = union(ellipsoid(points, (7, 42, -50), (3.4, 20, 5)), ellipsoid(points, (5.5, 42, -38), (2.4, 16, 4)))
    septum = ellipsoid(points, (0, 40, -44), (2.2, 30, 20))
    globe = ellipsoid(points, (31, 47, -30), (13, 13, 13))
    orbit = without(union(ellipsoid(points, (27, 34, -29), (16, 24, 15), yaw=20), globe + 2.5, 4), cavity + 2.5, 2)
    rectus = np.maximum(
        tube(points, [(19, 16, -25), (40, 40, -30), (43, 47, -30)], [2, 2.6, 1.5]),
        tube(points, [(17, 16, -25), (18, 42, -30), (19, 48, -30)], [2, 2.6, 1.5]),
    )
    rectus = union(rectus, tube(points, [(18, 16, -22), (29, 38, -19), (31, 46, -18)], [2, 2.2, 1.4]))
    return {
        "cavity": cavity,
        "skull": union(skull, base, 1),
        "marrow": marrow,
        "skin": skin,
        "muscle": muscle,
        "air": air,
        "mucosa": meet(union(concha, septum), air + 1, 0),
        "orbit": meet(orbit, skin - 3, 2),
        "globe": globe,
        "lens": ellipsoid(points, (31, 56, -30), (4.8, 2.3, 4.8)),
        "rectus": union(rectus, tube(points, [(30, 36, -30), (22, 24, -26), (14, 12, -22)], [2.2, 2.2, 2.2])),
    }


def _gain(rng: np.random.Generator, axes: Axes, low: Point, high: Point) -> Array:
    """Receive sensitivity (smooth, +-15 %), texture of tissue (+-1.5 %) and the edge of the excited slab below."""
    coil = np.exp(0.07 * smooth_field(rng, axes, 110.0) + 0.03 * smooth_field(rng, axes, 60.0))
    texture = 1 + 0.012 * smooth_field(rng, axes, 5.0) + 0.012 * smooth_field(rng, axes, 11.0)
    gain: npt.NDArray[Any] = coil * texture
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        below = np.clip((axes[axis] - low[axis]) / (14.0 if axis == 2 else 3.0), 0, 1)
        above = np.clip((high[axis] - axes[axis]) / 3.0, 0, 1)
        edge = np.sin(0.5 * np.pi * below) ** 2 * np.sin(0.5 * np.pi * above) ** 2
        gain = gain * edge.reshape(shape)
    return np.asarray(gain, dtype=np.float32)
