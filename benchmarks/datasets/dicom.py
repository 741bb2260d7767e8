"""DICOM series to volumes: classic (one slice a file) and enhanced (many frames a file), read with pydicom.

A volume has parallel slices at equal distances, each place taken once. What is not that (two orientations in one
series, a missing slice, several images at one place, a tilted gantry) is refused with a sentence, never repaired: a
guessed geometry would be scored as if it were true. Array axes are (column, row, slice) of the DICOM images; patient
coordinates LPS become RAS+. Geometry: DICOM PS3.3, C.7.6.2.1.1 (image plane), C.7.6.16 (multi-frame).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case

if TYPE_CHECKING:
    from mrsr_bench.volume import Volume

DICOM_SUFFIXES = (".dcm", ".ima")
PREAMBLE, MAGIC = 128, b"DICM"
IMAGE_MODALITIES = ("MR", "CT", "PT")
COSINE_TOLERANCE = 1e-3
"""Of a direction cosine: rounding in the header, not another orientation (0.06 degrees)."""
STEP_TOLERANCE = 0.02
"""Of the distance between slices, relative."""
MAX_TILT_MM = 0.05
"""That one slice may lie beside the normal of the previous; beyond it the stack is sheared (gantry tilt)."""

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """The files of one series in one folder, with what its header says; empty strings where it says nothing."""

    uid: str
    files: tuple[Path, ...]
    description: str = ""
    modality: str = ""
    patient: str = ""
    number: int = 0

    @property
    def folder(self) -> Path:
        """Where the first file lies."""
        return self.files[0].parent

    @property
    def stem(self) -> str:
        """The description as part of a file name, else the folder's name."""
        words = "".join(c if c.isalnum() else "_" for c in self.description).strip("_")
        return words or self.folder.name


@dataclass
class _Frame:
    """One slice: where its first voxel is (LPS, mm), its axes, spacings (row, column), rescaling and voxels."""

    name: str
    position: Vector
    orientation: Vector
    spacing: tuple[float, float]
    thickness: float | None
    between: float | None
    slope: float
    intercept: float
    pixels: Any = field(repr=False)


class DicomCase(Case):
    """One series of one subject."""

    def __init__(self, files: Sequence[Path], subject: str, image: str) -> None:
        self.files = tuple(files)
        self.path = self.files[0].parent
        self.subject = subject
        self.image = image

    @property
    def fingerprint(self) -> str:
        from mrsr_bench.benchmarks.datasets.folder import file_fingerprint

        digests = sorted(file_fingerprint(path) for path in self.files)
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def hr(self) -> Volume:
        return load_series(self.files)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, or by the mark at byte 128 where it has none."""
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with path.open("rb") as file:
            file.seek(PREAMBLE)
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _require_pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise UserError("reading DICOM needs pydicom: pip install pydicom") from error
    return pydicom


def _text(header: Any, name: str) -> str:
    value = getattr(header, name, None)
    return "" if value is None else str(value).strip()


def find_series(files: Iterable[Path]) -> list[Series]:
    """Image series among ``files``, in order of folder and series number; what holds no image is passed over.

    Raises:
        UserError: pydicom is not installed.
    """
    pydicom = _require_pydicom()
    tags = ["SeriesInstanceUID", "SeriesDescription", "Modality", "PatientID", "SeriesNumber", "Rows"]
    groups: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    facts: dict[tuple[Path, str], Any] = {}
    for path in sorted(files):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        except Exception:  # noqa: S112 - a parser of foreign bytes fails as it likes; a file of another kind is no image
            continue
        if "Rows" not in header or _text(header, "Modality") not in ("", *IMAGE_MODALITIES):
            continue
        key = (path.parent, _text(header, "SeriesInstanceUID"))
        groups[key].append(path)
        facts.setdefault(key, header)
    found = []
    for key, paths in groups.items():
        header = facts[key]
        number = _text(header, "SeriesNumber")
        found.append(
            Series(
                uid=key[1],
                files=tuple(paths),
                description=_text(header, "SeriesDescription"),
                modality=_text(header, "Modality"),
                patient=_text(header, "PatientID"),
                number=int(number) if number.lstrip("-").isdigit() else 0,
            )
        )
    return sorted(found, key=lambda series: (str(series.folder), series.number, series.uid))


def load_series(files: Sequence[Path]) -> Volume:
    """One volume from the files of one series.

    Intensities have the rescale slope and intercept applied, float32. A 2D acquisition whose header states its slice
    thickness says so in ``acquisition`` along the slice axis (profile unknown).

    Raises:
        UserError: a file cannot be read, holds colours or several contrasts, or the slices make no volume.
    """
    from mrsr_bench.volume import FULLY_ACQUIRED, AxisAcquisition, Volume

    if not files:
        raise UserError("a DICOM series needs at least one file; the folder holds none")
    name = str(files[0].parent.name or files[0].parent)
    frames: list[_Frame] = []
    two_dimensional = False
    for path in sorted(files):
        header = _read(path)
        two_dimensional = two_dimensional or _text(header, "MRAcquisitionType") == "2D"
        frames += _frames(header, path)
    order, step = _stack(frames, name)
    frames = [frames[index] for index in order]
    first = frames[0]
    data = np.stack([_voxels(frame) for frame in frames], axis=-1)
    if not np.isfinite(data).all():
        raise UserError(f"{name}: holds voxels that are not finite; export the series again")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[:3] * first.spacing[1]
    affine[:3, 1] = first.orientation[3:] * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    acquisition = FULLY_ACQUIRED
    if two_dimensional and first.thickness:
        gap = max(0.0, float(np.linalg.norm(step)) - first.thickness)
        acquisition = (AxisAcquisition(), AxisAcquisition(), AxisAcquisition("unknown", first.thickness, gap))
    return Volume(data, affine, acquisition, provenance={"source": name, "sform_code": 1, "qform_code": 1})


def _read(path: Path) -> Any:
    pydicom = _require_pydicom()
    try:
        header = pydicom.dcmread(path)
    except Exception as error:
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path.name}: not a readable DICOM file ({text}); fetch or export it again") from error
    if "PixelData" not in header:
        raise UserError(f"{path.name}: a DICOM file without an image; name a folder that holds one image series")
    if int(getattr(header, "SamplesPerPixel", 1)) != 1:
        raise UserError(f"{path.name}: holds colours; expected one intensity per voxel")
    return header


def _frames(header: Any, path: Path) -> Iterator[_Frame]:
    try:
        pixels = np.asarray(header.pixel_array)
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path.name}: its voxels cannot be read ({text}); if they are compressed, "
            "pip install 'pylibjpeg[all]', else fetch the file again"
        ) from error
    count = int(getattr(header, "NumberOfFrames", 1) or 1)
    per_frame = getattr(header, "PerFrameFunctionalGroupsSequence", None)
    if per_frame is None and count > 1:
        raise UserError(f"{path.name}: holds {count} frames and does not say where each lies; export it as slices")
    images = pixels.reshape(count, *pixels.shape[-2:])
    for index in range(count):
        groups = [header] if per_frame is None else [per_frame[index], *_shared(header), header]
        yield _frame(groups, images[index], path.name if count == 1 else f"{path.name}, frame {index + 1}")


def _shared(header: Any) -> list[Any]:
    sequence = getattr(header, "SharedFunctionalGroupsSequence", None)
    return list(sequence) if sequence else []


def _frame(groups: Sequence[Any], pixels: Any, name: str) -> _Frame:
    def value(keyword: str, macro: str | None = None) -> Any:
        for group in groups:
            sequence = getattr(group, macro, None) if macro else None
            holder = sequence[0] if sequence else group
            found = getattr(holder, keyword, None)
            if found is not None and found != "":
                return found
        return None

    position = value("ImagePositionPatient", "PlanePositionSequence")
    orientation = value("ImageOrientationPatient", "PlaneOrientationSequence")
    spacing = value("PixelSpacing", "PixelMeasuresSequence")
    if position is None or orientation is None or spacing is None:
        raise UserError(f"{name}: does not say where its slice lies (position, orientation, pixel spacing)")
    row, column = (float(s) for s in spacing)
    axes = np.array([float(c) for c in orientation])
    lengths = np.linalg.norm(axes.reshape(2, 3), axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or abs(axes[:3] @ axes[3:]) > 0.01 or min(row, column) <= 0:
        raise UserError(f"{name}: its orientation or pixel spacing is impossible; export the series again")
    thickness = value("SliceThickness", "PixelMeasuresSequence")
    between = value("SpacingBetweenSlices", "PixelMeasuresSequence")
    slope = value("RescaleSlope", "PixelValueTransformationSequence")
    intercept = value("RescaleIntercept", "PixelValueTransformationSequence")
    return _Frame(
        name,
        np.array([float(p) for p in position]),
        axes,
        (row, column),
        float(thickness) if thickness else None,
        abs(float(between)) if between else None,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        pixels,
    )


def _voxels(frame: _Frame) -> npt.NDArray[np.float32]:
    """(columns, rows), rescaled in float64 so that a tiny slope loses nothing."""
    return np.asarray(frame.pixels.T * np.float64(frame.slope) + frame.intercept, dtype=np.float32)


def _stack(frames: Sequence[_Frame], name: str) -> tuple[list[int], Vector]:
    """The order of the slices along their normal, and the step (LPS, mm) from one to the next."""
    first = frames[0]
    for frame in frames[1:]:
        if not np.allclose(frame.orientation, first.orientation, atol=COSINE_TOLERANCE):
            raise UserError(
                f"{name}: its slices have different orientations ({first.name} and {frame.name}); "
                "they are several acquisitions, so put each into its own folder"
            )
        if frame.pixels.shape != first.pixels.shape or not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
            raise UserError(f"{name}: {first.name} and {frame.name} differ in matrix or pixel size; split the series")
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    if len(frames) == 1:
        distance = first.between or first.thickness
        if not distance:
            raise UserError(f"{name}: one slice that states no thickness is no volume; name a series of several slices")
        return [0], normal * distance
    depths = np.array([float(frame.position @ normal) for frame in frames])
    order = [int(index) for index in np.argsort(depths, kind="stable")]
    gaps = np.diff(depths[order])
    step = float(np.median(gaps))
    if gaps.min() < 1e-3:
        at = order[int(gaps.argmin())], order[int(gaps.argmin()) + 1]
        raise UserError(
            f"{name}: {frames[at[0]].name} and {frames[at[1]].name} lie at one place, so these are several images of "
            "one slice (echoes, phases, repeats); put each into its own folder"
        )
    if np.abs(gaps - step).max() > STEP_TOLERANCE * step:
        missing = int(np.maximum(np.round(gaps / step) - 1, 0).sum())
        what = f"{missing} slices are missing" if missing else f"distances run from {gaps.min():g} to {gaps.max():g} mm"
        raise UserError(f"{name}: its {len(frames)} slices are not at equal distances ({what}); fetch the series again")
    steps = np.diff(np.stack([frames[index].position for index in order]), axis=0)
    beside = steps - np.outer(steps @ normal, normal)
    if np.linalg.norm(beside, axis=1).max() > max(MAX_TILT_MM, STEP_TOLERANCE * step):
        angle = float(np.degrees(np.arctan2(np.linalg.norm(beside.mean(0)), step)))
        raise UserError(
            f"{name}: its slices are shifted sideways (gantry tilt of {angle:.1f} degrees), so the grid is sheared; "
            "resample it to a rectangular grid first (dcm2niix does)"
        )
    return order, np.asarray(steps.mean(0), dtype=np.float64)
