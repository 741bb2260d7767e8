"""Synthetic lesions: where they are put, what is added to HR, and how much of it a method gives back.

A lesion is a ball of tissue that is brighter or darker than what surrounds it, with partial volume at its rim. Its
places are drawn from a seed among the voxels of white matter: by the exact label on the phantom, else among the deep
and homogeneous tissue whose intensity is the most frequent, which in T1w, T2w, PD and FLAIR heads is white matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Pair
    from mrsr_bench.benchmarks.metrics.region import Box, Mask, Reference
    from mrsr_bench.volume import FloatArray, Grid

RADII_MM = (1.5, 2.5, 4.0)
CONTRAST = 0.3
"""Share of the surrounding tissue's intensity."""
APART_MM = 16.0
"""Between the centres of two lesions, so that they do not touch at any resolution."""
DEEP_MM = 15.0
HOMOGENEOUS, NEAR_MODE = 0.3, 0.1
"""The share of the deep voxels with the least variation; how far from the most frequent intensity they may be."""
_NEIGHBOURHOOD_MM = 5.0


@dataclass(frozen=True)
class Lesion:
    """Centre (voxels of HR), radius (mm) and what it adds in its middle (units of HR)."""

    centre: tuple[int, int, int]
    radius: float
    amplitude: float

    def field(self, grid: Grid, box: Box) -> FloatArray:
        """What it adds to the voxels in ``box``: a ball whose rim is one voxel wide."""
        axes = [(np.arange(s.start, s.stop) - c) * h for s, c, h in zip(box, self.centre, grid.spacing, strict=True)]
        distance = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True)))
        width = float(np.mean(grid.spacing))
        share = np.clip((self.radius - distance) / width + 0.5, 0, 1)
        return np.asarray(self.amplitude * share, dtype=np.float32)

    def box(self, grid: Grid, reach: Sequence[float]) -> Box:
        """The voxels within ``reach`` mm of the ball's rim along each axis."""
        parts = []
        for centre, spacing, size, wide in zip(self.centre, grid.spacing, grid.shape, reach, strict=True):
            half = int(np.ceil((self.radius + wide) / spacing))
            parts.append(slice(max(0, centre - half), min(size, centre + half + 1)))
        return (parts[0], parts[1], parts[2])


def white_matter(pair: Pair, reference: Reference) -> Mask:
    """Voxels that may be the centre of a lesion: white matter, away from other tissue as far as it reaches.

    Raises:
        UserError: nothing in the image looks like it.
    """
    from scipy.ndimage import distance_transform_edt, uniform_filter

    spacing = pair.hr.spacing
    if pair.labels is not None:
        from mrsr_bench.benchmarks.datasets.head_rendering import LABELS

        tissue = (pair.labels == LABELS["white_matter"]) & reference.region
        depth = distance_transform_edt(tissue, sampling=spacing)
    else:
        inside = distance_transform_edt(np.pad(reference.mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
        deep = (inside >= min(DEEP_MM, 0.6 * inside.max())) & reference.region
        size = [max(3, 2 * round(_NEIGHBOURHOOD_MM / h / 2) + 1) for h in spacing]
        mean = uniform_filter(pair.hr.data.astype(np.float64), size)
        variance = uniform_filter(pair.hr.data.astype(np.float64) ** 2, size) - mean**2
        candidates = deep & (mean > 0.1 * reference.range)
        if not candidates.any():
            raise UserError("no tissue lies deep enough in the image for a lesion; use a whole head")
        variation = np.sqrt(np.maximum(variance, 0)) / np.where(candidates, mean, 1)
        even = candidates & (variation <= np.quantile(variation[candidates], HOMOGENEOUS))
        counts, edges = np.histogram(mean[even], bins=64)
        mode = float(edges[counts.argmax() : counts.argmax() + 2].mean())
        return np.asarray(even & (np.abs(mean - mode) <= NEAR_MODE * mode))
    if not tissue.any():
        raise UserError("the image holds no white matter to put a lesion into")
    return np.asarray(depth >= min(float(RADII_MM[-1]), float(np.quantile(depth[tissue], 0.9))))


def draw_lesions(pair: Pair, reference: Reference, count: int, seed: int) -> list[Lesion]:
    """Up to ``count`` lesions, radii in turn, bright and dark in turn; fewer where there is no room for more.

    Raises:
        UserError: there is no place for any.
    """
    places = np.argwhere(white_matter(pair, reference))
    if not len(places):
        raise UserError("the image holds no white matter to put a lesion into")
    rng = np.random.default_rng(seed)
    spacing = np.asarray(pair.hr.spacing)
    chosen: list[npt.NDArray[np.int64]] = []
    for place in rng.permutation(places):
        if all(np.linalg.norm((place - other) * spacing) >= APART_MM for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    lesions = []
    for index, place in enumerate(chosen):
        around = tuple(slice(max(0, c - 2), c + 3) for c in place)
        level = float(np.median(pair.hr.data[around]))
        sign = 1 if index % 2 == 0 else -1
        centre = (int(place[0]), int(place[1]), int(place[2]))
        lesions.append(Lesion(centre, RADII_MM[index // 2 % len(RADII_MM)], sign * CONTRAST * level))
    return lesions


def recovery(change: FloatArray, lesion: FloatArray) -> float:
    """Contrast recovered: the projection of SR's ``change`` on what was added; 1 all of it, 0 none."""
    added = lesion.astype(np.float64)
    return float(np.vdot(change.astype(np.float64), added) / np.vdot(added, added))
