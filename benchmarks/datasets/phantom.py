"""phantom: a procedural head, built in, for any number of subjects and without any download.

What a scanner would do is done to an object that is finer than HR (half its spacing): HR is the centre of the object's
k-space, LR is sampled from the same object, never from HR, and both get complex noise before the magnitude. The
noise-free HR and the tissue labels are known exactly. A score on it proves the machinery, not a method: heads are
more than noise and formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import SPLITS, Case, Dataset, Pair
from mrsr_bench.benchmarks.datasets.signal import Contrast
from mrsr_bench.benchmarks.protocol import sha256_of, subject_seed
from mrsr_bench.volume import FloatArray, Triple, Volume

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.degradation import Degradation, Geometry

GENERATOR_VERSION = 1
"""To be raised with every change that moves a voxel; part of every fingerprint."""

FIELD_OF_VIEW: Triple = (160.0, 192.0, 160.0)
"""Millimetres that hold every head; the neck leaves below, where the signal fades out."""

FINER = 2
"""Samples of the object per HR voxel and axis."""

FIRST_SUBJECT = {"train": 0, "val": 800, "test": 900}
"""Number of the first subject of each split, so that other counts never move a subject from one split to another."""

SAMPLED_FROM_THE_OBJECT = {"kspace_truncation", "thick_slices", "thin_slices"}
"""Degradations whose LR is a separable sampling known from their geometry, unless `_VOXEL_WISE` parameters are set."""

_VOXEL_WISE = ("window", "phase", "snr")
_BRAIN = (2, 12)
"""First and last of the brain's `LABELS` (ventricles, among them, are left out)."""

Matrix = npt.NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class PhantomSettings:
    """One configuration: everything but the subject that the voxels depend on; ``snr`` None is noise-free."""

    contrast: Contrast
    spacing: Triple
    shape: tuple[int, int, int]
    snr: float | None
    seed: int

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """RAS+ axes, the head in the middle."""
        from mrsr_bench.benchmarks.datasets.head_model import HEAD_CENTRE

        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [c - (n - 1) / 2 * h for c, n, h in zip(HEAD_CENTRE, self.shape, self.spacing, strict=True)]
        return affine


@dataclass(frozen=True, eq=False)
class _Scan:
    """A rendered subject: the fine object, HR without and with noise, labels, and the noise's sigma per channel."""

    fine: FloatArray
    noise_free: Volume
    hr: Volume
    labels: npt.NDArray[np.int16]
    sigma: float


class PhantomCase(Case):
    """One subject in one contrast. Renderings of the last subject are kept, since `hr` and `acquire` share them."""

    def __init__(self, number: int, settings: PhantomSettings) -> None:
        self.number = number
        self.settings = settings
        self.subject = f"phantom-{number:03d}"
        self.image = f"{self.subject}_{settings.contrast}"

    @property
    def fingerprint(self) -> str:
        """Hash of the generator's version and all parameters."""
        return sha256_of({"generator": GENERATOR_VERSION, "subject": self.subject, **asdict(self.settings)})

    def hr(self) -> Volume:
        """The HR volume: magnitude, with Rician noise."""
        return self._scan().hr

    def noise_free(self) -> Volume:
        """HR without noise, real-valued: band-limited, so slightly negative beside sharp edges."""
        return self._scan().noise_free

    def labels(self) -> npt.NDArray[np.int16]:
        """The tissue at every HR sample; see `head_rendering.LABELS`."""
        return self._scan().labels

    def _scan(self) -> _Scan:
        return _scan(self.number, self.settings)

    def acquire(self, degradation: Degradation, settings: Mapping[str, Any], seed: int) -> Pair:
        """LR sampled from the fine object on the grid of `Degradation.geometry`; reference, noise-free HR and labels.

        Truncated k-space and slice profiles are taken from the object itself. Where the degradation does more than
        sample (apodisation, phase, noise of its own, bicubic, compositions) it is applied to the noise-free HR instead.
        Either way LR gets noise of its own (see `noise_ratio`), unless the degradation adds some.
        """
        scan = self._scan()
        params = degradation.sample(np.random.default_rng(subject_seed(seed, self.subject)), scan.hr, settings)
        place = degradation.geometry(scan.hr.grid, params)
        if degradation.name in SAMPLED_FROM_THE_OBJECT and not _sets(params, *_VOXEL_WISE):
            clean = _sampled(scan, place)
        else:
            clean = degradation.apply(scan.noise_free, params)
        lr = clean.data
        if not _sets(params, "snr"):
            rng = np.random.default_rng(subject_seed(seed, f"{self.image}:lr-noise"))
            lr = _magnitude(lr, scan.sigma * noise_ratio(place, scan.hr), rng)
        box = tuple(slice(a, b) for a, b in zip(place.start, place.stop, strict=True))
        return Pair(
            lr=scan.hr.with_data(lr, place.lr, acquisition=place.acquisition),
            hr=degradation.reference(scan.hr, params),
            params=params,
            noise_free=degradation.reference(scan.noise_free, params),
            labels=np.ascontiguousarray(scan.labels[box]),
        )


class PhantomDataset(Dataset):
    """Procedural heads in one contrast and resolution, with fixed subjects in every split.

    Args:
        name: of the dataset.
        contrast: T1w (MPRAGE), T2w (spin echo), PD (spin echo) or FLAIR.
        spacing: HR voxel size in mm, one number or one per axis R, A, S; 0.5 to 2 is what heads are drawn for.
        shape: HR voxels per axis; None covers the head.
        snr: mean signal of the brain over the noise's standard deviation per complex channel, in HR; None: no noise.
        train, val, test: number of subjects in each split.
        seed: of the population; another seed gives other heads under the same names.

    Raises:
        UserError: an argument is impossible.
    """

    terms = "Apache-2.0; generated, no person was scanned. It proves the machinery, not a method."
    synthetic = True
    SPLIT_RULE = "subjects by number: " + ", ".join(f"{part} from {first}" for part, first in FIRST_SUBJECT.items())

    def __init__(
        self,
        name: str = "phantom",
        *,
        contrast: str = "T1w",
        spacing: float | Triple = 1.0,
        shape: tuple[int, int, int] | None = None,
        snr: float | None = 30.0,
        train: int = 8,
        val: int = 2,
        test: int = 3,
        seed: int = 0,
    ) -> None:
        self.name = name
        if contrast not in get_args(Contrast):
            raise UserError(f"{name}: contrast is one of {', '.join(get_args(Contrast))}; got {contrast!r}")
        voxel: Triple = (float(spacing),) * 3 if isinstance(spacing, (int, float)) else spacing
        if len(voxel) != 3 or not all(0.25 <= h <= 5 for h in voxel):
            raise UserError(f"{name}: spacing is 0.25 to 5 mm; got {spacing!r}")
        if shape is None:
            even = [2 * round(length / h / 2) for length, h in zip(FIELD_OF_VIEW, voxel, strict=True)]
            shape = (even[0], even[1], even[2])
        if len(shape) != 3 or min(shape) < 4:
            raise UserError(f"{name}: shape is three sizes of at least 4 voxels; got {shape!r}")
        if snr is not None and not snr > 0:
            raise UserError(f"{name}: snr is above 0, or None for no noise; got {snr!r}")
        self.counts = {"train": train, "val": val, "test": test}
        starts = sorted(FIRST_SUBJECT.values())
        for split, count in self.counts.items():
            room = next((s for s in starts if s > FIRST_SUBJECT[split]), 10**6) - FIRST_SUBJECT[split]
            if not 0 <= count <= room:
                raise UserError(f"{name}: {split} holds 0 to {room} subjects; got {count}")
        self.settings = PhantomSettings(contrast, voxel, shape, snr, seed)  # type: ignore[arg-type]
        size = " x ".join(f"{h:g}" for h in voxel) if len(set(voxel)) > 1 else f"{voxel[0]:g}"
        self.summary = (
            f"procedural heads, {contrast}, {size} mm, {'x'.join(map(str, shape))}, with noise-free HR and labels"
        )

    def cases(self, split: str, *, seed: int = 0) -> Sequence[PhantomCase]:
        """The cases of ``split``; which subjects are in it is fixed, whatever ``seed``.

        Raises:
            UserError: there is no such split.
        """
        if split not in SPLITS:
            raise UserError(f"{self.name} has no split {split!r}; it has: {', '.join(SPLITS)}")
        wanted = self.counts if split == "all" else (split,)
        return [
            PhantomCase(FIRST_SUBJECT[part] + index, self.settings)
            for part in wanted
            for index in range(self.counts[part])
        ]

    def splits(self) -> dict[str, list[str]]:
        """Split to subjects."""
        return {part: [case.subject for case in self.cases(part)] for part in self.counts}


@lru_cache(maxsize=1)
def _scan(number: int, settings: PhantomSettings) -> _Scan:
    from mrsr_bench.benchmarks.datasets.head_model import Anatomy, build_fields
    from mrsr_bench.benchmarks.datasets.head_rendering import Fine, render
    from mrsr_bench.benchmarks.datasets.signal import draw_tissues, tissue_signals
    from mrsr_bench.benchmarks.degradations.kspace_truncation import truncation_matrix
    from mrsr_bench.zoo.regrid import apply_matrices

    subject = f"phantom-{number:03d}"
    rng = np.random.default_rng(subject_seed(settings.seed, subject))
    anatomy, tissues = Anatomy.draw(rng), draw_tissues(rng)
    rng = np.random.default_rng(subject_seed(settings.seed, f"{subject}:{settings.contrast}"))
    signals = tissue_signals(settings.contrast, tissues, rng)
    affine = settings.affine
    low = _triple(affine[:3, 3].tolist())
    high = _triple(a + (n - 1) * h for a, n, h in zip(low, settings.shape, settings.spacing, strict=True))
    fine = Fine(
        shape=_triple(FINER * n for n in settings.shape),
        origin=low,
        spacing=_triple(h / FINER for h in settings.spacing),
    )
    data, labels = render(build_fields(anatomy, low, high), fine, signals, every=FINER)
    clean = apply_matrices(data, [truncation_matrix(FINER * n, n, None, 0.0) for n in settings.shape])
    noise_free = Volume(clean, affine, provenance={"source": f"{subject}_{settings.contrast}"})
    brain = (labels >= _BRAIN[0]) & (labels <= _BRAIN[1]) & (labels != 4)
    level = float(clean[brain if brain.any() else clean >= clean.mean()].mean())
    sigma = level / settings.snr if settings.snr is not None else 0.0
    noisy = noise_free.with_data(_magnitude(clean, sigma, rng))
    return _Scan(data, noise_free, noisy, labels, sigma)


def _triple(numbers: Iterable[T]) -> tuple[T, T, T]:
    x, y, z = numbers
    return (x, y, z)


def _sets(params: object, *names: str) -> bool:
    """Whether ``params``, or those of any part of a composition, give one of ``names`` a value."""
    if isinstance(params, Mapping):
        return any(value if key in names else _sets(value, *names) for key, value in params.items())
    return isinstance(params, (list, tuple)) and any(_sets(part, *names) for part in params)


def _sampled(scan: _Scan, place: Geometry) -> Volume:
    """LR without noise, from the fine object: one matrix per axis says how that axis was measured."""
    from mrsr_bench.benchmarks.degradations.kspace_truncation import truncation_matrix
    from mrsr_bench.benchmarks.degradations.slices import box_matrix, gaussian_matrix
    from mrsr_bench.zoo.regrid import apply_matrices

    grid = scan.hr.grid
    change = np.linalg.inv(grid.affine) @ place.lr.affine
    matrices: list[Matrix | None] = []
    for axis, (count, how) in enumerate(zip(place.lr.shape, place.acquisition, strict=True)):
        size = scan.fine.shape[axis]
        centres = change[axis, 3] + change[axis, axis] * np.arange(count)
        width = (how.width or 0.0) / grid.spacing[axis]
        if how.kind == "kspace":
            matrices.append(truncation_matrix(size, count, None, 0.0))
        elif how.kind == "box":
            matrices.append(box_matrix(FINER * centres, FINER * width, size))
        elif how.kind == "gaussian":
            matrices.append(gaussian_matrix(FINER * centres, FINER * width, size))
        else:
            matrices.append(truncation_matrix(size, grid.shape[axis], None, 0.0)[np.round(centres).astype(int)])
    return scan.hr.with_data(apply_matrices(scan.fine, matrices), place.lr, acquisition=place.acquisition)


def noise_ratio(place: Geometry, hr: Volume) -> float:
    """Sigma of LR over sigma of HR, in the same units of signal.

    SNR goes with voxel volume times the square root of the samples measured: a k-space axis cut from N to M samples has
    N/M times the voxel and M/N of the samples; a slice of another thickness has another voxel and as many samples; an
    average over w voxels (bicubic) gains the square root of w.
    """
    ratio = 1.0
    for axis, how in enumerate(place.acquisition):
        if how.kind == "kspace":
            ratio *= float(np.sqrt(place.lr.shape[axis] / hr.data.shape[axis]))
        elif how.kind in ("box", "gaussian") and how.width:
            ratio *= hr.spacing[axis] / how.width
        elif how.kind == "bicubic" and how.width:
            ratio *= float(np.sqrt(hr.spacing[axis] / how.width))
    return ratio


def _magnitude(data: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Magnitude after complex noise of ``sigma`` per channel: Rician. Without noise, the data's own magnitude."""
    if not sigma:
        return np.abs(data)
    real = data + np.float32(sigma) * rng.standard_normal(data.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(data.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


DATASETS = (
    PhantomDataset(),
    PhantomDataset("phantom_2mm", spacing=2.0),
    PhantomDataset("phantom_2mm_t2w", contrast="T2w", spacing=2.0),
)
