"""Volume: voxels, their place in the world and how they were acquired; Grid: the place without the voxels.

World coordinates are RAS+ in mm. An array axis is never permuted or flipped on the way: what comes in
axis by axis goes out axis by axis, with the affine telling where it lies.
"""

from __future__ import annotations

import gzip
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
AxisKind = Literal["full", "kspace", "box", "gaussian", "sample", "bicubic", "unknown"]
Triple = tuple[float, float, float]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
COMPRESSED_SUFFIXES = (".gz", ".mgz")
READABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mgz", ".mgh", ".img", ".hdr")
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 50.0
MIN_AXES_DETERMINANT = 1e-4
"""Of the unit vectors of the axes: below it they lie in one plane and no voxel has a place."""
MAX_DEFLATE_RATIO = 1032
"""Deflate cannot shrink data further, so a header that promises more than this is a lie."""
MAX_NIFTI_SIZE = 32767
"""Voxels along one axis that the 16-bit sizes of a NIfTI-1 header can state."""
MM, SECONDS, TIME_UNITS = 2, 8, 0o70
"""Of NIfTI's ``xyzt_units``: the codes for mm and s, and the bits that hold the unit of time."""


@dataclass(frozen=True)
class AxisAcquisition:
    """How one array axis was sampled.

    ``kind`` is ``full`` (nothing known to be missing), ``kspace`` (truncated k-space), ``box`` or
    ``gaussian`` (a slice profile of ``width`` mm, full width at half maximum for the Gaussian),
    ``sample`` (point samples), ``bicubic`` or ``unknown``; ``gap`` is the distance between slices in mm.
    """

    kind: AxisKind = "full"
    width: float | None = None
    gap: float = 0.0


FULLY_ACQUIRED = (AxisAcquisition(), AxisAcquisition(), AxisAcquisition())


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie: a shape and a 4x4 voxel-to-world affine (RAS+ mm, voxel centres)."""

    shape: tuple[int, int, int]
    affine: Affine

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> Triple:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    def world_to_array(self) -> tuple[int, int, int]:
        """For the world axes R, A, S: the array axis that lies nearest to each."""
        from nibabel.orientations import io_orientation

        nearest = io_orientation(self.affine)[:, 0]
        found = {int(world): axis for axis, world in enumerate(nearest) if np.isfinite(world)}
        return (found[0], found[1], found[2])

    def factor_by_axis(self, factor: Sequence[float]) -> Triple:
        """A factor given in world order R x A x S, in the order of this grid's array axes."""
        by_axis = [1.0, 1.0, 1.0]
        for world, axis in enumerate(self.world_to_array()):
            by_axis[axis] = float(factor[world])
        return (by_axis[0], by_axis[1], by_axis[2])

    def resized(self, shape: Sequence[int], step: Sequence[float], origin: Sequence[float]) -> Grid:
        """A grid along the same axes: ``step`` of the new voxels and place of its voxel 0, in voxels of this one."""
        change = np.eye(4)
        change[:3, :3] = np.diag(np.asarray(step, dtype=np.float64))
        change[:3, 3] = origin
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), self.affine @ change)

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """The voxels ``start`` to ``stop`` (exclusive) of this grid, in the same place of the world."""
        return self.resized([b - a for a, b in zip(start, stop, strict=True)], (1, 1, 1), start)

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """True if both have one shape and all corners agree within ``tolerance`` voxels."""
        if self.shape != other.shape:
            return False
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
        corners[:, :3] *= np.array(self.shape) - 1
        apart = (corners @ (self.affine - other.affine).T)[:, :3]
        return bool(np.linalg.norm(apart, axis=1).max() <= tolerance * min(self.spacing))


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image: ``data`` (float32, shape of the grid), affine, acquisition per array axis, provenance.

    ``provenance`` holds the source's name and the NIfTI header facts that an output must keep
    (``sform_code``, ``qform_code``, ``xyzt_units``, ``descrip``); nothing in it is needed to compute.
    """

    data: FloatArray
    affine: Affine
    acquisition: tuple[AxisAcquisition, AxisAcquisition, AxisAcquisition] = FULLY_ACQUIRED
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise UserError(f"a volume has three axes; this one has shape {self.data.shape}")
        object.__setattr__(self, "data", np.asarray(self.data, dtype=np.float32))
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @property
    def grid(self) -> Grid:
        """The grid the voxels lie on."""
        x, y, z = self.data.shape
        return Grid((x, y, z), self.affine)

    @property
    def spacing(self) -> Triple:
        """Voxel size along each array axis, mm."""
        return self.grid.spacing

    def with_data(self, data: npt.NDArray[Any], grid: Grid | None = None, **changes: Any) -> Volume:
        """The same volume with other voxels, on ``grid`` if given."""
        affine = self.affine if grid is None else grid.affine
        return replace(self, data=np.asarray(data, dtype=np.float32), affine=affine, **changes)

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Volume:
        """The voxels ``start`` to ``stop`` (exclusive), in the same place of the world."""
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        return self.with_data(np.ascontiguousarray(self.data[box]), self.grid.cropped(start, stop))


def _check_affine(affine: Affine, name: str) -> None:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    finite = bool(np.isfinite(affine).all()) and bool((spacing > 0).all())
    if not finite or abs(np.linalg.det(affine[:3, :3] / spacing)) < MIN_AXES_DETERMINANT:
        raise UserError(f"{name}: its affine is singular or not finite, so no voxel has a place; repair the header")
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        size = " x ".join(f"{s:.4g}" for s in spacing)
        raise UserError(
            f"{name}: voxels of {size} mm are not those of an MRI scan "
            f"({MIN_SPACING_MM} to {MAX_SPACING_MM} mm); repair the header's spacing or its unit"
        )


def _shown(text: str | Path) -> str:
    """A file's name as it may stand in a sentence: on one line, whatever it holds."""
    return str(text) if str(text).isprintable() else repr(str(text))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence nibabel's log lines about odd headers: what matters is raised, or read as the standard says."""
    from nibabel.imageglobals import logger

    was, logger.disabled = logger.disabled, True
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was


def _open(path: Path) -> Any:
    name = _shown(path.name)
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise UserError(f"{_shown(path)}: cannot be looked up ({_one_line(error)})") from error
    if not is_there and path.is_symlink():
        raise UserError(f"{_shown(path)}: is a link to a file that is not here; fetch it first (datalad get)")
    if not is_there:
        raise UserError(f"{_shown(path)}: no such file")
    if is_folder:
        raise UserError(f"{_shown(path)} is a folder; name one image file in it")
    if not path.name.lower().endswith(READABLE_SUFFIXES):
        raise UserError(f"{name}: cannot read this format; convert it to NIfTI (.nii or .nii.gz) first")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"{name}: cannot be looked up ({_one_line(error)})") from error
    if size == 0:
        raise UserError(f"{name}: the file is empty (0 bytes); fetch or export it again")
    import nibabel

    try:
        with _quiet():
            return nibabel.load(path)
    except Exception as error:  # a parser of foreign bytes fails in any way it likes
        raise UserError(f"{name}: not a readable image ({_one_line(error)})") from error


def _header_facts(image: Any) -> dict[str, Any]:
    header = image.header
    facts: dict[str, Any] = {}
    if hasattr(header, "get_sform") and "sform_code" in header:
        facts["sform_code"], facts["qform_code"] = int(header["sform_code"]), int(header["qform_code"])
        facts["xyzt_units"] = int(header["xyzt_units"])
        facts["time_step"] = float(header["pixdim"][4])
        facts["descrip"] = bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")
    return facts


@dataclass(frozen=True)
class _Opened:
    """An image file whose header has been checked; its voxels are still on disk."""

    image: Any
    path: Path
    name: str
    shape: tuple[int, ...]
    affine: Affine
    facts: dict[str, Any]


def _check_size(path: Path, image: Any, shape: tuple[int, ...], name: str) -> None:
    """Refuse a header that promises more voxels than the file or the memory can hold, before any are read."""
    import psutil

    voxels = math.prod(shape)
    held = voxels * np.dtype(image.get_data_dtype()).itemsize
    stored = Path(image.file_map["image"].filename or path).stat().st_size
    compressed = path.name.lower().endswith(COMPRESSED_SUFFIXES)
    if held > stored * (MAX_DEFLATE_RATIO if compressed else 1):
        raise UserError(
            f"{name}: the file is truncated or corrupt: its header promises {held} bytes of voxels "
            f"(shape {shape}) and the file has {stored}; fetch it again"
        )
    needed = 4 * voxels + held
    available = psutil.virtual_memory().available
    if needed > available:
        raise UserError(
            f"{name}: shape {shape} needs {needed / 2**30:.1f} GiB and {available / 2**30:.1f} GiB are free; "
            "crop it or use a larger machine"
        )


def _inspect(path: Path) -> _Opened:
    image = _open(path)
    name = _shown(path.name)
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3:
        raise UserError(f"{name}: has {len(shape)} axes of size {shape}; a volume has three")
    if len(shape) > 4:
        raise UserError(f"{name}: has {len(shape)} axes of size {shape}; expected a 3D image or a 4D series")
    if min(shape) < 1:
        raise UserError(f"{name}: has no voxels (shape {shape}); fetch or export it again")
    dtype = np.dtype(image.get_data_dtype())
    if dtype.fields is not None:
        raise UserError(f"{name}: holds RGB colours; expected one intensity per voxel")
    if dtype.kind == "c":
        raise UserError(f"{name}: holds complex voxels; save the magnitude image first")
    if dtype.kind not in "biuf":
        raise UserError(f"{name}: holds voxels of type {dtype}; expected one number per voxel")
    facts = _header_facts(image)
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= {1: 1000.0, 3: 0.001}.get(int(facts.get("xyzt_units", 2)) & 7, 1.0)
    _check_affine(affine, name)
    _check_size(path, image, shape, name)
    facts["source"] = path.name
    return _Opened(image, path, name, shape, affine, facts)


@lru_cache(maxsize=1024)
def _verify_gzip(path: str, size: int, changed_ns: int) -> None:
    """Read a compressed file to its end, where its checksum is: nibabel stops at the last voxel and never looks.

    Once per path, size and time of change. Bytes that follow the checksum are nobody's voxels and let be.
    """
    with gzip.open(path) as file:
        try:
            while file.read(1 << 20):
                pass
        except gzip.BadGzipFile as error:
            if not str(error).startswith("Not a gzipped file"):
                raise


def _voxels(opened: _Opened, index: int | None) -> FloatArray:
    """All voxels in the file's units, or those of one volume of a series; checked to be finite."""
    try:
        if opened.path.name.lower().endswith(COMPRESSED_SUFFIXES):
            status = opened.path.stat()
            _verify_gzip(str(opened.path.resolve()), status.st_size, status.st_mtime_ns)
        with _quiet():
            if index is None:
                data = np.asarray(opened.image.get_fdata(dtype=np.float32, caching="unchanged")).reshape(opened.shape)
            else:
                surplus = len(opened.image.shape) - 4
                picked = opened.image.dataobj[(slice(None),) * 3 + (index,) + (0,) * surplus]
                data = np.asarray(picked, dtype=np.float32)
    except Exception as error:  # as in _open
        raise UserError(
            f"{opened.name}: the voxels cannot be read, the file is truncated or corrupt ({_one_line(error)})"
        ) from error
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise UserError(
            f"{opened.name}: {bad} of {data.size} voxels are NaN, infinite or beyond float32; replace them first"
        )
    return data


def count_volumes(path: str | Path) -> int:
    """How many volumes an image file holds, from its header alone: 1 for a 3D image, n for a 4D series.

    Raises:
        UserError: as `load_series`, as far as the header tells.
    """
    shape = _inspect(Path(path)).shape
    return shape[3] if len(shape) == 4 else 1


def load_series(path: str | Path) -> list[Volume]:
    """Read an image file: one `Volume` for a 3D image, one per time point for a 4D one.

    Intensities are in the file's own units (``scl_slope`` and ``scl_inter`` applied), float32; the affine is
    the sform, else the qform, in mm.

    Raises:
        UserError: the file is missing, truncated, of another format, complex or RGB, not 3D or 4D, holds NaN
            or infinite voxels, has an impossible affine, or does not fit into memory.
    """
    opened = _inspect(Path(path))
    data = _voxels(opened, None)
    frames = [data] if data.ndim == 3 else [data[..., t] for t in range(data.shape[3])]
    return [Volume(np.ascontiguousarray(frame), opened.affine, provenance=opened.facts) for frame in frames]


def load(path: str | Path, index: int | None = None) -> Volume:
    """Read a 3D image, or volume ``index`` (from 0) of a 4D series; see `load_series`.

    Raises:
        UserError: as `load_series`; the image is a series and no ``index`` is given, or it has no such volume.
    """
    opened = _inspect(Path(path))
    count = opened.shape[3] if len(opened.shape) == 4 else 1
    if index is None and count > 1:
        raise UserError(f"{opened.name}: is a series of {count} volumes; expected one volume")
    if index is not None and not 0 <= index < count:
        raise UserError(f"{opened.name}: has no volume {index}; its volumes are 0 to {count - 1}")
    data = _voxels(opened, index if len(opened.shape) == 4 else None)
    return Volume(np.ascontiguousarray(data), opened.affine, provenance=opened.facts)


def save(volumes: Volume | Sequence[Volume], path: str | Path) -> Path:
    """Write one volume, or a series on one grid, as float32 NIfTI in the input's units of intensity.

    The sform holds the affine; the qform holds it too unless the affine has shear, which a qform cannot
    express. Form codes are the source's. The file appears whole or not at all.

    Raises:
        UserError: the name is not a NIfTI name, its folder does not exist, an axis is too long for NIfTI, the
            volumes of a series lie on several grids, or the file cannot be written.
    """
    import nibabel

    path = Path(path)
    check_output(path)
    series = [volumes] if isinstance(volumes, Volume) else list(volumes)
    if not all(v.grid.same_as(series[0].grid) for v in series[1:]):
        raise UserError(f"{_shown(path.name)}: the volumes of a series must lie on one grid; write them one by one")
    data = series[0].data if len(series) == 1 else np.stack([v.data for v in series], axis=-1)
    if max(data.shape) > MAX_NIFTI_SIZE:
        raise UserError(f"{_shown(path.name)}: shape {data.shape} is too long for NIfTI ({MAX_NIFTI_SIZE} an axis)")
    affine, facts = series[0].affine, series[0].provenance
    image = nibabel.nifti1.Nifti1Image(data, affine)
    header = image.header
    sform_code = int(facts.get("sform_code", 0)) or int(facts.get("qform_code", 0)) or 1
    qform_code = int(facts.get("qform_code", 0)) or sform_code
    image.set_sform(affine, code=sform_code)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sheared = not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_qform(affine, code=0 if sheared else qform_code)
    header["xyzt_units"] = MM | (int(facts.get("xyzt_units", 0)) & TIME_UNITS or SECONDS) if len(series) > 1 else MM
    if len(series) > 1:
        header["pixdim"][4] = float(facts.get("time_step", 0.0))
    header["descrip"] = str(facts.get("descrip", "")).encode("latin-1", "replace")[:79]
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    partial = path.with_name(f".{path.name}.partial{suffix}")
    try:
        nibabel.save(image, partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{_shown(path)}: cannot be written ({_one_line(error)})") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_output(path: str | Path) -> None:
    """Refuse an output name before any work is done for it.

    Raises:
        UserError: the name is not a NIfTI name or names a folder, or its own folder is not there or not writable.
    """
    path = Path(path)
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"{_shown(path.name)}: the output must be a NIfTI file (.nii or .nii.gz)")
    if not path.parent.is_dir():
        raise UserError(f"{_shown(path.parent)}: no such folder; make it first")
    if path.is_dir():
        raise UserError(f"{_shown(path)}: is a folder; name the output file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{_shown(path.parent)}: this folder is not writable; choose another for the output")
