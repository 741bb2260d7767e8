"""From the fields of a head to voxels: layers of tissue painted slab by slab on a fine grid.

A layer covers what lies below it with an opacity that passes from 0 to 1 over one fine voxel of its signed distance, so
that every boundary is antialiased and lies where the continuous surface does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mrsr_bench.benchmarks.datasets.head_model import HeadFields
from mrsr_bench.benchmarks.datasets.head_shapes import Array, union
from mrsr_bench.benchmarks.datasets.head_vessels import Vessels, draw_vessels

LABELS: dict[str, int] = {
    name: value
    for value, name in enumerate(
        (
            "background", "csf", "cortex", "white_matter", "ventricle", "caudate", "putamen", "pallidum", "thalamus",
            "hippocampus", "cerebellar_cortex", "cerebellar_white_matter", "brainstem", "vessel", "bone", "marrow",
            "fat", "muscle", "other_soft_tissue", "eye",
        )
    )
}  # fmt: skip
"""Integer label of every structure; air inside the head is background."""

SLAB = 8
"""Fine slices painted at a time: a few megabytes, so that the layers stay in the processor's cache."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Fine:
    """The fine grid: samples at ``origin + spacing * index`` (world mm)."""

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]


def render(
    head: HeadFields, fine: Fine, signals: Mapping[str, float], every: int = 2
) -> tuple[Array, npt.NDArray[np.int16]]:
    """The signal on the fine grid (float32) and the labels of every ``every``-th fine sample along each axis."""
    painter = _Painter(head, fine, signals)
    signal = np.zeros(fine.shape, dtype=np.float32)
    labels = np.zeros([-(-n // every) for n in fine.shape], dtype=np.int16)
    for start in range(0, fine.shape[0], SLAB):
        stop = min(start + SLAB, fine.shape[0])
        canvas = _Canvas(signal[start:stop], labels[-(-start // every) : -(-stop // every)], every)
        painter.paint(canvas, start, stop)
    return signal, labels


@dataclass
class _Canvas:
    """One slab of the signal, and the labels of every ``every``-th sample of it (a slab starts on such a sample)."""

    signal: Array
    labels: npt.NDArray[np.int16]
    every: int

    def cover(self, box: Box, opacity: Array, value: float, label: str) -> None:
        """Paint a layer over ``box``: ``signal += opacity (value - signal)``, and its label where it is opaque."""
        part = self.signal[box]
        change = np.subtract(np.float32(value), part)
        change *= opacity
        part += change
        kept = tuple(slice(-s.start % self.every, None, self.every) for s in box)
        places = tuple(slice(-(-s.start // self.every), -(-s.stop // self.every)) for s in box)
        self.labels[places][opacity[kept] > 0.5] = LABELS[label]


class _Painter:
    """Paints slabs; holds the matrices that lift lattice fields to the fine grid, and the box of every layer."""

    groups: Mapping[str, tuple[str, float]] = {
        "head": ("skin", 2.0),
        "muscle": ("muscle", 2.0),
        "skull": ("skull", 2.0),
        "cavity": ("cavity", 2.0),
        "falx": ("falx", 1.0),
        "tentorium": ("tentorium", 1.0),
        "orbit": ("orbit", 3.0),
        "air": ("air", 3.0),
        "cerebrum": ("cerebrum", 2.0),
        "cerebellum": ("cerebellum", 3.0),
        "stem": ("stem", 2.0),
        "callosum": ("callosum", 2.0),
        "caudate": ("caudate", 2.0),
        "putamen": ("putamen", 2.0),
        "pallidum": ("pallidum", 2.0),
        "thalamus": ("thalamus", 2.0),
        "hippocampus": ("hippocampus", 2.0),
        "nigra": ("nigra", 2.0),
        "fornix": ("fornix", 2.0),
        "ventricle": ("ventricle", 2.0),
        "third": ("third", 2.0),
        "choroid": ("choroid", 2.0),
    }

    def __init__(self, head: HeadFields, fine: Fine, signals: Mapping[str, float]) -> None:
        from mrsr_bench.zoo.regrid import spline_matrix

        self.head, self.fine, self.signals = head, fine, signals
        self.sharpness = head.anatomy.mean_scale / float(np.mean(fine.spacing))
        self.matrices = []
        for axis, count, origin, spacing in zip(head.axes, fine.shape, fine.origin, fine.spacing, strict=True):
            index = (origin + spacing * np.arange(count) - axis[0]) / (axis[1] - axis[0])
            matrix = spline_matrix(index, len(axis), 3)
            matrix[np.abs(matrix) < 1e-7] = 0  # the far tail is denormal in float32, and a hundred times slower
            self.matrices.append(np.ascontiguousarray(matrix, dtype=np.float32))
        self.boxes = {name: self._box(*group) for name, group in self.groups.items()}
        self.vessels: Vessels = draw_vessels(head, fine.shape, fine.origin, fine.spacing)

    def _box(self, field: str, margin: float) -> tuple[tuple[int, int], ...] | None:
        """First and last fine index along each axis of where ``field`` exceeds ``-margin``; None if nowhere."""
        wanted = self.head.fields[field] > -margin
        found = []
        for axis in range(3):
            hit = np.flatnonzero(wanted.any(axis=tuple(a for a in range(3) if a != axis)))
            if not hit.size:
                return None
            places = self.head.axes[axis]
            low = (places[hit[0]] - self.fine.origin[axis]) / self.fine.spacing[axis]
            high = (places[hit[-1]] - self.fine.origin[axis]) / self.fine.spacing[axis]
            a, b = max(0, int(np.floor(low)) - 1), min(self.fine.shape[axis], int(np.ceil(high)) + 2)
            if a >= b:
                return None
            found.append((a, b))
        return tuple(found)

    def _regions(self, start: int, stop: int, *names: str) -> Iterator[_Region]:
        for name in names:
            box = self.boxes[name]
            if box is not None and box[0][0] < stop and box[0][1] > start:
                rows = (max(start, box[0][0]), min(stop, box[0][1]))
                yield _Region(self, name, start, (rows, box[1], box[2]))

    def opacity(self, distance: Array) -> Array:
        return np.asarray(np.clip(distance * np.float32(self.sharpness) + np.float32(0.5), 0, 1), dtype=np.float32)

    def paint(self, canvas: _Canvas, start: int, stop: int) -> None:
        """All layers of the fine slices ``start`` to ``stop``, from the outside in."""
        self._soft_tissue(canvas, start, stop)
        self._brain(canvas, start, stop)
        simple = (
            ("callosum", "white", "white_matter"),
            ("hippocampus", "grey", "hippocampus"),
            ("thalamus", "thalamus", "thalamus"),
            ("caudate", "caudate", "caudate"),
            ("putamen", "putamen", "putamen"),
            ("pallidum", "pallidum", "pallidum"),
            ("nigra", "nigra", "brainstem"),
            ("ventricle", "csf", "ventricle"),
            ("fornix", "white", "white_matter"),
            ("third", "csf", "ventricle"),
        )
        for name, tissue, label in simple:
            for region in self._regions(start, stop, name):
                canvas.cover(region.box, self.opacity(region[name]), self.signals[tissue], label)
        for region in self._regions(start, stop, "choroid"):
            inside = np.minimum(region["choroid"], region["ventricle"])
            canvas.cover(region.box, 0.6 * self.opacity(inside), self.signals["cerebellar_grey"], "ventricle")
        for kind, covered in (("artery", self.vessels.arteries), ("vein", self.vessels.veins)):
            slab = covered[start:stop]
            if slab.any():
                everything = (slice(0, slab.shape[0]), slice(0, slab.shape[1]), slice(0, slab.shape[2]))
                canvas.cover(everything, slab * np.float32(1 / 255), self.signals[kind], "vessel")
        for region in self._regions(start, stop, "head"):
            canvas.signal[region.box] *= region["gain"]

    def _soft_tissue(self, canvas: _Canvas, start: int, stop: int) -> None:
        value = self.signals
        for region in self._regions(start, stop, "head"):
            skin = region["skin"]
            canvas.cover(region.box, self.opacity(skin), value["skin"], "other_soft_tissue")
            canvas.cover(region.box, self.opacity(skin - 1.7), value["fat"], "fat")
        for region in self._regions(start, stop, "muscle"):
            canvas.cover(region.box, self.opacity(region["muscle"]), value["muscle"], "muscle")
        for region in self._regions(start, stop, "orbit"):
            canvas.cover(region.box, self.opacity(region["orbit"]), value["fat"], "fat")
            canvas.cover(region.box, self.opacity(region["rectus"]), value["muscle"], "muscle")
            globe = region["globe"]
            canvas.cover(region.box, self.opacity(globe), value["dura"], "eye")
            canvas.cover(region.box, self.opacity(globe - 1.1), value["vitreous"], "eye")
            canvas.cover(region.box, self.opacity(region["lens"]), value["lens"], "eye")
        for region in self._regions(start, stop, "air"):
            air = region["air"]
            canvas.cover(region.box, self.opacity(air + 1.2), value["mucosa"], "other_soft_tissue")
            canvas.cover(region.box, self.opacity(air), 0.0, "background")
            canvas.cover(region.box, self.opacity(region["mucosa"]), value["mucosa"], "other_soft_tissue")
        for region in self._regions(start, stop, "skull"):
            bone = region["skull"]
            canvas.cover(region.box, self.opacity(bone + 1.3), value["muscle"], "other_soft_tissue")
            covered = np.minimum(bone, -region["air"] - 0.6)
            canvas.cover(region.box, self.opacity(covered), value["bone"], "bone")
            canvas.cover(
                region.box, self.opacity(np.minimum(region["marrow"], covered - 1.5)), value["marrow"], "marrow"
            )

    def _brain(self, canvas: _Canvas, start: int, stop: int) -> None:
        value = self.signals
        for region in self._regions(start, stop, "cavity"):
            canvas.cover(region.box, self.opacity(region["cavity"]), value["csf"], "csf")
        for region in self._regions(start, stop, "falx", "tentorium"):
            across = (
                region["x"] + np.float32(0.9) * region["wander"]
                if region.name == "falx"
                else region["cerebellum"] + 1.1
            )
            sheet = np.minimum(0.55 - np.abs(across), region[region.name])
            canvas.cover(region.box, self.opacity(sheet), value["dura"], "other_soft_tissue")
        for region in self._regions(start, stop, "cerebrum"):
            depth = _cortical_depth(region, self.head.anatomy.sulcus, self.head.anatomy.atrophy)
            canvas.cover(region.box, self.opacity(depth), value["grey"], "cortex")
            canvas.cover(region.box, self.opacity(depth - region["thickness"]), value["white"], "white_matter")
        for region in self._regions(start, stop, "cerebellum"):
            depth = _folial_depth(region)
            canvas.cover(region.box, self.opacity(depth), value["cerebellar_grey"], "cerebellar_cortex")
            canvas.cover(region.box, self.opacity(depth - 1.6), value["white"], "cerebellar_white_matter")
        for region in self._regions(start, stop, "stem"):
            canvas.cover(region.box, self.opacity(region["stem"]), value["brainstem"], "brainstem")


class _Region:
    """Fields over a box of the slab, lifted to the fine grid when asked for."""

    def __init__(self, painter: _Painter, name: str, start: int, span: tuple[tuple[int, int], ...]) -> None:
        self._painter, self.name, self._span = painter, name, span
        self._lifted: dict[str, Array] = {}
        rows, columns, layers = span
        self.box: Box = (slice(rows[0] - start, rows[1] - start), slice(*columns), slice(*layers))

    def __getitem__(self, field: str) -> Array:
        if field not in self._lifted:
            data = self._painter.head.fields[field]
            by_row, by_column, by_layer = (m[a:b] for m, (a, b) in zip(self._painter.matrices, self._span, strict=True))
            rows = (by_row @ data.reshape(data.shape[0], -1)).reshape(-1, *data.shape[1:])
            across = rows.reshape(-1, data.shape[2]) @ by_layer.T
            self._lifted[field] = np.matmul(by_column, across.reshape(len(by_row), data.shape[1], -1))
        return self._lifted[field]


def _closest(a: Array, b: Array, blend: float = 1.6) -> Array:
    """Distance to the nearer of two surfaces, rounded where they meet (the crown of a gyrus)."""
    return -union(-a, -b, blend)


def _beyond(distance: Array, excess: Array) -> Array:
    """Distance to a sheet that ends: beside it ``distance``, ``excess`` > 0 past its edge."""
    past = np.maximum(excess, 0)
    return np.asarray(np.sqrt(distance * distance + past * past), dtype=np.float32)


def _cortical_depth(region: _Region, sulcus: float, atrophy: float) -> Array:
    """Distance into the cerebrum from the nearest cerebrospinal fluid: hull, sulci, midline and lateral fissure."""
    hull, x, y, z = region["cerebrum"], region["x"], region["y"], region["z"]
    side, wander = np.abs(x), region["wander"]
    mouth = np.exp(np.clip(hull, 0, 20) * np.float32(-0.3))
    half_width = np.float32(sulcus) * (1 + np.float32(0.8 + atrophy) * mouth)
    depth = _closest(hull, _beyond(region["sulcus_1"], region["below_1"]) - half_width)
    depth = _closest(depth, _beyond(region["sulcus_2"], region["below_2"]) - 0.8 * half_width)
    depth = _closest(
        depth, _beyond(np.abs(x + np.float32(0.9) * wander), region["commissure"]) - np.float32(0.9 + 0.3 * atrophy)
    )
    rise = z + 1 + np.float32(0.4) * y + np.float32(2.2) * wander
    lateral = _beyond(_beyond(rise, 37 - side), np.maximum(y - 24, -46 - y))
    wall = side - 38 + np.float32(0.006) * (y + 2) ** 2 + np.float32(0.012) * (rise - 1) ** 2 - np.float32(1.4) * wander
    insular = _beyond(_beyond(wall, np.abs(rise - 1) - 12), np.maximum(y - 20, -24 - y))
    fissure = np.minimum(lateral, insular) - np.float32(0.8 + 0.5 * atrophy)
    return _closest(depth, fissure)


def _folial_depth(region: _Region) -> Array:
    """Distance into the cerebellum from its surface and fissures, which fan out from the fourth ventricle."""
    surface, y, z = region["cerebellum"], region["y"], region["z"]
    back, up = -38 - y + np.float32(0.12) * np.abs(region["x"]), z + 34
    radius = np.sqrt(back * back + up * up)
    arc = np.arctan2(up, back) * 26 + region["folia"]
    depth = surface
    for period, floor, half_width in ((3.9, 7.5, 0.2), (11.7, 17.0, 0.3)):
        turns = arc / np.float32(period)
        sheet = np.abs(turns - np.round(turns)) * np.float32(period / 26) * radius
        depth = _closest(depth, _beyond(sheet, surface - floor) - half_width, 0.8)
    return depth
