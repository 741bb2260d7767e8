"""paired: a real LR and a real HR scan of the same subject, from a folder of your own.

Layout: ``lr/NAME.nii.gz`` and ``hr/NAME.nii.gz``, the same names in both; the subject is the BIDS entity ``sub-XXX`` of
the name, else the name. ``paired`` is that folder under the data root, ``paired:PATH`` any other one.

Two scans lie on one another only as well as the subject held still: under the degradation ``as_acquired`` LR is the
real LR scan, and metrics that compare with HR are taken only where `alignment` finds the two within half a voxel; else
the pair says why not, and metrics without reference remain. Other degradations are applied to HR, as of any dataset.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case, Dataset, Fault, Fit, Pair
from mrsr_bench.benchmarks.datasets.folder import IMAGE_SUFFIXES, FolderCase, FolderDataset, file_fingerprint
from mrsr_bench.benchmarks.datasets.published import data_root

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.volume import Volume

AS_ACQUIRED = "as_acquired"
MAX_SHIFT = 0.5
"""HR voxels along its coarsest axis: beyond it a sharp SR is punished for being where LR is."""
MIN_CORRELATION = 0.5
"""Of the magnitudes of the gradients at the best shift: below it the two show different things. Heads of two persons
may be above it: whose scan it is must be known and is not found out here."""
BLOCKS = 2
"""Per axis: the shift is also measured in parts, so that a rotation is seen, which has no shift as a whole."""
MIN_BLOCK_VOXELS = 8


@dataclass(frozen=True)
class Alignment:
    """How far LR lies from HR: the largest ``shift_mm`` of the whole and its parts, ``limit_mm``, the correlation."""

    shift_mm: float
    limit_mm: float
    correlation: float

    @property
    def aligned(self) -> bool:
        """Whether reference metrics mean something."""
        return self.shift_mm <= self.limit_mm and self.correlation >= MIN_CORRELATION

    @property
    def reason(self) -> str | None:
        """Why reference metrics are not taken; None if they are."""
        if self.aligned:
            return None
        return (
            f"LR and HR are not registered: they lie up to {self.shift_mm:.2f} mm apart (allowed: {self.limit_mm:.2f}) "
            f"and their edges correlate by {self.correlation:.2f} (needed: {MIN_CORRELATION}); register them first"
        )


def alignment(lr: Volume, hr: Volume) -> Alignment:
    """Measure how well two scans lie on one another in world space, on LR's grid.

    HR is smoothed to LR's voxels and brought onto LR's grid; the shift between the magnitudes of the gradients, which
    do not depend on the sign of the contrast, is found by cross-correlation to a twentieth of a voxel (Guizar-Sicairos
    et al., Optics Letters 33, 156, 2008), in the whole image and in the parts that hold something.
    """
    import numpy as np
    from scipy import ndimage

    change = np.linalg.inv(hr.affine) @ lr.affine
    steps = np.linalg.norm(change[:3, :3], axis=1)
    smooth = ndimage.gaussian_filter(hr.data, [max(0.0, (s**2 - 1) / 12) ** 0.5 for s in steps])
    there = ndimage.affine_transform(smooth, change[:3, :3], change[:3, 3], lr.data.shape, order=1, mode="constant")
    inside = ndimage.affine_transform(
        np.ones_like(smooth), change[:3, :3], change[:3, 3], lr.data.shape, order=0, mode="constant"
    )
    fixed, moving = _edges(lr.data) * inside, _edges(there) * inside
    spacing = np.array(lr.spacing)
    shift, correlation = _shift(fixed, moving)
    shifts = [float(np.linalg.norm(shift * spacing))]
    for part in np.ndindex(*(BLOCKS,) * 3):
        box = tuple(slice(i * n // BLOCKS, (i + 1) * n // BLOCKS) for i, n in zip(part, lr.data.shape, strict=True))
        block = fixed[box]
        if min(block.shape) < MIN_BLOCK_VOXELS or (block**2).sum() < 0.5 * (fixed**2).sum() / BLOCKS**3:
            continue
        shift, agrees = _shift(block, moving[box])
        if agrees >= MIN_CORRELATION:
            shifts.append(float(np.linalg.norm(shift * spacing)))
    return Alignment(max(shifts), MAX_SHIFT * max(hr.spacing), correlation)


def _edges(data: Any) -> Any:
    from scipy import ndimage

    return ndimage.gaussian_gradient_magnitude(data.astype("float32"), 1.0)


def _shift(fixed: Any, moving: Any) -> tuple[Any, float]:
    """Shift in voxels, and the correlation of the two once it is undone."""
    import numpy as np
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    if not fixed.any() or not moving.any():
        return np.zeros(3), 0.0
    shift = phase_cross_correlation(fixed, moving, upsample_factor=20, normalization=None)[0]
    moved = ndimage.shift(moving, shift, order=1, mode="nearest")
    if not fixed.std() or not moved.std():
        return shift, 0.0
    return shift, float(np.corrcoef(fixed.ravel(), moved.ravel())[0, 1])


class PairedCase(FolderCase):
    """A real LR and a real HR image of one subject; ``path`` is HR's."""

    def __init__(self, lr_path: Path, hr_path: Path, subject: str, image: str) -> None:
        super().__init__(hr_path, subject, image)
        self.lr_path = lr_path

    @property
    def fingerprint(self) -> str:
        return f"{file_fingerprint(self.lr_path)}:{super().fingerprint}"

    def lr(self) -> Volume:
        """The LR image as it was acquired."""
        from mrsr_bench.volume import load

        return load(self.lr_path)

    def parts(self) -> Mapping[str, Callable[[], Volume]]:
        return {"lr": self.lr, "hr": self.hr}

    def fit(self) -> Fit:
        measured = alignment(self.lr(), self.hr())
        return Fit(measured.shift_mm, measured.correlation, measured.reason)

    def acquire(self, degradation: Degradation, settings: Mapping[str, Any], seed: int) -> Pair:
        """The real pair under ``as_acquired``, with the reason if the two are not registered; else HR degraded."""
        if degradation.name != AS_ACQUIRED:
            return super().acquire(degradation, settings, seed)
        lr, hr = self.lr(), self.hr()
        measured = alignment(lr, hr)
        facts = {
            "pair": "real",
            "shift_mm": round(measured.shift_mm, 3),
            "limit_mm": round(measured.limit_mm, 3),
            "correlation": round(measured.correlation, 3),
        }
        return Pair(lr, hr, facts, unaligned=measured.reason)


class PairedDataset(Dataset):
    """The pairs under a folder; splits are drawn or declared as those of `FolderDataset` over ``hr/``."""

    summary = "real LR and real HR of the same subject: lr/NAME.nii.gz and hr/NAME.nii.gz in a folder of your own"
    terms = "your own data; nothing of it leaves this machine"

    def __init__(self, name: str = "paired", path: Path | None = None) -> None:
        self.name, self._path = name, path

    def cases(self, split: str = "all", *, seed: int = 0) -> Sequence[Case]:
        """The pairs of a split, subjects in sorted order.

        Raises:
            UserError: there is no such folder, or an image has no partner.
        """
        alone = self._alone()
        if alone:
            raise UserError(f"{self._place()}: {alone[0]}; add its partner")
        return self._pairs(split, seed)

    def checkable(self) -> Sequence[Case]:
        return self._pairs("all", 0)

    def faults(self) -> Sequence[Fault]:
        alone = self._alone()
        return [Fault("partner", f"{len(alone)} images have no partner", alone)] if alone else []

    def _place(self) -> Path:
        return self._path or data_root() / "paired"

    def _names(self) -> dict[str, dict[str, Path]]:
        place = self._place()
        for part in ("lr", "hr"):
            if not (place / part).is_dir():
                raise UserError(f"{self.name}: {place / part} is not there; expected lr/NAME.nii.gz and hr/NAME.nii.gz")
        return {part: _images(place / part) for part in ("lr", "hr")}

    def _alone(self) -> list[str]:
        names = self._names()
        alone = sorted(names["lr"].keys() ^ names["hr"].keys())
        return [f"{name} is only in {'lr' if name in names['lr'] else 'hr'}" for name in alone]

    def _pairs(self, split: str, seed: int) -> list[Case]:
        lr = self._names()["lr"]
        cases = FolderDataset(self._place() / "hr").cases(split, seed=seed)
        return [
            PairedCase(lr[case.path.name], case.path, case.subject, case.image)
            for case in cases
            if isinstance(case, FolderCase) and case.path.name in lr
        ]


def _images(folder: Path) -> dict[str, Path]:
    found = (Path(entry) for entry in os.scandir(folder))
    return {path.name: path for path in found if path.name.lower().endswith(IMAGE_SUFFIXES) and path.name[0] != "."}


def variant(name: str) -> PairedDataset | None:
    """``paired:PATH``: the pairs in that folder."""
    prefix, _, path = name.partition(":")
    if prefix != "paired" or not path:
        return None
    return PairedDataset(f"paired-{Path(path).resolve().name}", Path(path).expanduser())


DATASETS = (PairedDataset(),)
