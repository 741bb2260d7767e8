"""Two stacks of one body at right angles: the coronal one is super-resolved, the acquired axial one is the reference.

`prostatex_orthogonal` pairs the coronal and the axial series of a patient; ``orthogonal:PATH`` pairs
``*acq-cor*`` and ``*acq-tra*`` images of a folder by subject. Under ``as_acquired`` a method brings the coronal stack
onto a finer grid of its own; that volume is then seen as the axial scanner would have seen it (`AxialView`) and
compared with what it did see, only where the coronal stack reaches.

The patient may have moved between the scans and the gain differs, so a translation and one factor of intensity are
found beforehand from the *measured* coronal stack, never from a method's output: the same for all methods, recorded in
the run. Rotations are not undone; a pair that does not fit after the translation is not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case, Dataset, Fault, Fit, Pair
from mrsr_bench.benchmarks.datasets.folder import FolderDataset
from mrsr_bench.benchmarks.datasets.paired import AS_ACQUIRED, MIN_CORRELATION
from mrsr_bench.benchmarks.datasets.published import PublishedDataset

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.volume import FloatArray, Grid, Volume

MAX_TRANSLATION_MM = 10.0
"""Beyond it the two stacks are not of one position of the patient, or the correlation found something else."""
SAMPLES_PER_SLICE = 5
"""Of the axial profile, a box of the slice distance: its integral by midpoints."""
UPSAMPLING = 20
_REFINEMENTS = 8
_COMMON_MM = 1.0
"""Voxel size on which the translation is found."""
_EDGE_MM = 1.0
"""Standard deviation of the Gaussian whose gradient shows edges."""


@dataclass(frozen=True, eq=False)
class AxialView:
    """What the axial scanner sees of a volume on ``source``: moved by ``shift_mm`` (RAS), times ``gain``, on ``grid``.

    Slices are boxes as thick as their distance; within the slice, cubic splines.
    """

    source: Grid
    grid: Grid
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain: float = 1.0

    def __call__(self, data: FloatArray) -> FloatArray:
        """``data`` (shape of ``source``) as voxels on ``grid``; beyond the edge of ``source`` the edge is repeated."""
        import numpy as np
        from scipy.ndimage import map_coordinates, spline_filter

        pad = 4
        filtered = spline_filter(np.pad(data.astype(np.float64), pad, mode="edge"), 3, mode="nearest")
        out = np.zeros(self.grid.shape, dtype=np.float64)
        for offset in self._offsets():
            for position in range(self.grid.shape[self._axis()]):
                place = [slice(None)] * 3
                place[self._axis()] = slice(position, position + 1)
                coordinates = self._coordinates(position, offset) + pad
                seen = map_coordinates(filtered, coordinates, order=3, mode="nearest", prefilter=False)
                out[tuple(place)] += seen.reshape(out[tuple(place)].shape)
        return np.asarray(out * (self.gain / SAMPLES_PER_SLICE), dtype=np.float32)

    def inside(self) -> npt.NDArray[np.bool_]:
        """Voxels of ``grid`` whose whole profile lies between the outermost voxel centres of ``source``."""
        import numpy as np

        last = np.array(self.source.shape)[:, None] - 1
        found = np.ones(self.grid.shape, dtype=bool)
        for position in range(self.grid.shape[self._axis()]):
            place: list[Any] = [slice(None)] * 3
            place[self._axis()] = position
            for offset in (-0.5, 0.5):
                at = self._coordinates(position, offset)
                within = ((at >= -1e-4) & (at <= last + 1e-4)).all(axis=0)
                found[tuple(place)] &= within.reshape(found[tuple(place)].shape)
        return found

    def _axis(self) -> int:
        """The slice axis of ``grid``: its coarsest."""
        spacing = self.grid.spacing
        return max(range(3), key=lambda axis: spacing[axis])

    def _offsets(self) -> list[float]:
        return [(i + 0.5) / SAMPLES_PER_SLICE - 0.5 for i in range(SAMPLES_PER_SLICE)]

    def _coordinates(self, position: int, offset: float) -> npt.NDArray[np.float64]:
        """Places of one slice's voxels, ``offset`` slices off, in voxels of ``source``: (3, voxels of a slice)."""
        import numpy as np

        axis = self._axis()
        ranges = [np.arange(n, dtype=float) for n in self.grid.shape]
        ranges[axis] = np.array([position + offset])
        voxels = np.stack([part.ravel() for part in np.meshgrid(*ranges, indexing="ij")])
        moved = self.grid.affine.copy()
        moved[:3, 3] -= self.shift_mm
        change = np.linalg.inv(self.source.affine) @ moved
        return np.asarray(change[:3, :3] @ voxels + change[:3, 3:])


def translation(moving: Volume, fixed: Volume) -> tuple[tuple[float, float, float], float]:
    """How far ``moving`` must be moved to lie on ``fixed`` (mm, RAS), and the correlation of their edges then.

    Both are blurred in their planes as they are across, and brought onto a common grid of isotropic voxels over the
    box that they share, in world coordinates; the shift of the gradient magnitudes is found by cross-correlation
    (Guizar-Sicairos et al. 2008) under the Hann windows of both, again and again until nothing moves, since a window
    that stands still draws the shift to zero. A stack may lie askew in the box: only what both hold counts.
    """
    import numpy as np
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    from mrsr_bench.volume import Grid
    from mrsr_bench.zoo.regrid import regrid

    low = np.max([_corners(v.grid).min(axis=0) for v in (moving, fixed)], axis=0)
    high = np.min([_corners(v.grid).max(axis=0) for v in (moving, fixed)], axis=0)
    size = np.floor((high - low) / _COMMON_MM).astype(int) + 1
    if (size < 8).any():
        raise UserError("the two stacks share less than 8 mm along an axis, so they cannot be compared")
    affine = np.diag([_COMMON_MM] * 3 + [1.0])
    affine[:3, 3] = low
    common = Grid((int(size[0]), int(size[1]), int(size[2])), affine)
    thick = max(max(v.spacing) for v in (moving, fixed))

    def edges(volume: Volume) -> Any:
        even = volume.with_data(ndimage.gaussian_filter(volume.data, _evened(volume.spacing, thick)))
        return ndimage.gaussian_gradient_magnitude(regrid(even, common, "linear").data, _EDGE_MM / _COMMON_MM)

    still, of_fixed, total = edges(fixed), _window(fixed.grid, common), np.zeros(3)
    for _ in range(_REFINEMENTS):
        moved = _moved(moving, total.tolist())
        there, taper = edges(moved), of_fixed * _window(moved.grid, common)
        step = phase_cross_correlation(still * taper, there * taper, upsample_factor=UPSAMPLING, normalization=None)[0]
        total += step * _COMMON_MM
        if np.linalg.norm(step) < 1 / UPSAMPLING:
            break
    moved = _moved(moving, total.tolist())
    there, both = edges(moved), (of_fixed > 0) & (_window(moved.grid, common) > 0)
    varied = both.any() and still[both].std() > 0 and there[both].std() > 0
    agrees = float(np.corrcoef(still[both], there[both])[0, 1]) if varied else 0.0
    x, y, z = (float(shift) for shift in total)
    return (x, y, z), agrees


def _evened(spacing: Sequence[float], thick: float) -> list[float]:
    """Standard deviations (voxels) that make an axis as blurred as slices ``thick`` mm apart are when interpolated.

    A box of the spacing and the triangle of linear interpolation have the variance spacing² (1/12 + 1/6).
    """
    return [(max(thick**2 - step**2, 0.0) / 4) ** 0.5 / step for step in spacing]


def _moved(volume: Volume, shift_mm: Sequence[float]) -> Volume:
    affine = volume.affine.copy()
    affine[:3, 3] += shift_mm
    return replace(volume, affine=affine)


def _corners(grid: Grid) -> npt.NDArray[np.float64]:
    import numpy as np

    ends = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    ends[:, :3] *= np.array(grid.shape) - 1
    return np.asarray((ends @ grid.affine.T)[:, :3])


def _window(grid: Grid, common: Grid) -> Any:
    """Hann windows along the axes of ``grid`` on the voxels of ``common``, 0 outside, so that no border is an edge."""
    import numpy as np

    change = np.linalg.inv(grid.affine) @ common.affine
    places = [
        np.arange(n, dtype=float).reshape([-1 if i == j else 1 for i in range(3)]) for j, n in enumerate(common.shape)
    ]
    window = np.ones(common.shape)
    for row, size in zip(change, grid.shape, strict=False):
        at = (sum(row[j] * places[j] for j in range(3)) + row[3] + 0.5) / size
        window *= np.where((at > 0) & (at < 1), np.sin(np.pi * at) ** 2, 0)
    return window


class OrthogonalCase(Case):
    """A coronal and an axial stack of one subject; as any other image it is the coronal one."""

    def __init__(self, coronal: Case, axial: Case) -> None:
        self.coronal, self.axial = coronal, axial
        self.subject, self.image = coronal.subject, coronal.image

    @property
    def fingerprint(self) -> str:
        return f"{self.coronal.fingerprint}:{self.axial.fingerprint}"

    def hr(self) -> Volume:
        return self.coronal.hr()

    def parts(self) -> Mapping[str, Callable[[], Volume]]:
        return {"coronal": self.coronal.hr, "axial": self.axial.hr}

    def fit(self) -> Fit:
        coronal, axial = self.coronal.hr(), self.axial.hr()
        shift, correlation = translation(coronal, axial)
        overlap = AxialView(coronal.grid, axial.grid, shift).inside()
        return Fit(math.dist(shift, (0, 0, 0)), correlation, _why_not(shift, correlation, overlap))

    def acquire(self, degradation: Degradation, settings: Mapping[str, Any], seed: int) -> Pair:
        """The coronal stack, the axial one to compare with, and how a volume on the target grid is seen there."""
        if degradation.name != AS_ACQUIRED:
            return super().acquire(degradation, settings, seed)
        import numpy as np

        from mrsr_bench.benchmarks.protocol import subject_seed

        acquired, axial = self.coronal.hr(), self.axial.hr()
        params = degradation.sample(np.random.default_rng(subject_seed(seed, self.subject)), acquired, settings)
        lr = degradation.apply(acquired, params)
        interpolated = degradation.reference(acquired, params)
        shift, correlation = translation(lr, axial)
        view = AxialView(interpolated.grid, axial.grid, shift)
        overlap = AxialView(lr.grid, axial.grid, shift).inside()
        unaligned = _why_not(shift, correlation, overlap)
        gain = _gain(view(interpolated.data)[overlap], axial.data[overlap]) if overlap.any() else 1.0
        facts = {
            **params,
            "pair": "real",
            "shift_mm": [round(s, 3) for s in shift],
            "correlation": round(correlation, 3),
            "gain": round(gain, 5),
            "overlap_voxels": int(overlap.sum()),
        }
        seen = AxialView(interpolated.grid, axial.grid, shift, gain)
        return Pair(lr, axial, facts, unaligned=unaligned, target=interpolated.grid, view=seen, overlap=overlap)


def _why_not(shift: Sequence[float], correlation: float, overlap: npt.NDArray[np.bool_]) -> str | None:
    """Why the axial stack is not compared with; None if it is."""
    distance = math.dist(shift, (0, 0, 0))
    if correlation < MIN_CORRELATION or distance > MAX_TRANSLATION_MM:
        return (
            f"the two stacks do not lie on one another: {distance:.1f} mm apart (allowed: {MAX_TRANSLATION_MM:g}), "
            f"their edges correlate by {correlation:.2f} (needed: {MIN_CORRELATION})"
        )
    return None if overlap.any() else "no axial voxel lies within the coronal stack"


def _gain(seen: FloatArray, acquired: FloatArray) -> float:
    """The factor that brings ``seen`` nearest to ``acquired`` (least squares)."""
    import numpy as np

    power = float((seen.astype(np.float64) ** 2).sum())
    return float((seen.astype(np.float64) * acquired).sum() / power) if power > 0 else 1.0


class OrthogonalDataset(Dataset):
    """Subjects that have both stacks, of two datasets with the same subjects."""

    def __init__(self, name: str, coronal: str, axial: str, summary: str) -> None:
        self.name, self.summary = name, summary
        self.made_of = (coronal, axial)
        self.terms = "as of the two datasets"

    def _parts(self) -> tuple[Dataset, Dataset]:
        from mrsr_bench.benchmarks.datasets import datasets

        return datasets.get(self.made_of[0]), datasets.get(self.made_of[1])

    def cases(self, split: str = "all", *, seed: int = 0) -> Sequence[Case]:
        """The pairs of a split, subjects in sorted order; a subject with one stack only is left out.

        Raises:
            UserError: the images are not there, or no subject has both.
        """
        coronal, axial = (part.cases(split, seed=seed) for part in self._parts())
        by_subject = {case.subject: case for case in axial}
        found = [OrthogonalCase(case, by_subject[case.subject]) for case in coronal if case.subject in by_subject]
        if not found:
            raise UserError(f"{self.name}: no subject of the split {split} has a coronal and an axial stack")
        return found

    def faults(self) -> Sequence[Fault]:
        """The subjects with one stack only, but of those that are known to have no other."""
        parts = self._parts()
        there = [{case.subject for case in part.cases("all")} for part in parts]
        alone = []
        for index, lacks in enumerate(("axial", "coronal")):
            other = parts[1 - index]
            known = set(other.known_subjects()) if isinstance(other, PublishedDataset) else None
            missing = there[index] - there[1 - index]
            alone += [f"{s} has no {lacks} stack" for s in missing if known is None or s in known]
        return [Fault("partner", f"{len(alone)} subjects have one stack only", sorted(alone))] if alone else []


class OrthogonalFolder(OrthogonalDataset):
    """The same of a folder of one's own: ``acq-cor`` and ``acq-tra`` in the names."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"orthogonal-{path.resolve().name}", "", "", "coronal and axial stacks in a folder of your own"
        )
        self.path, self.made_of = path, ()
        self.terms = "your own data; nothing of it leaves this machine"

    def _parts(self) -> tuple[Dataset, Dataset]:
        return FolderDataset(self.path, "acq-cor_T2w"), FolderDataset(self.path, "acq-tra_T2w")


def variant(name: str) -> OrthogonalFolder | None:
    """``orthogonal:PATH``: the stacks in that folder."""
    prefix, _, path = name.partition(":")
    return OrthogonalFolder(Path(path).expanduser()) if prefix == "orthogonal" and path else None


DATASETS = (
    OrthogonalDataset(
        "prostatex_orthogonal",
        "prostatex_cor",
        "prostatex",
        "PROSTATEx, coronal T2w stacks with the axial ones of the same patients to compare with",
    ),
)
