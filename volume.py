"""Volume: voxels, their place in the world and how they were acquired; Grid: the place without the voxels.

World coordinates are RAS+ in mm. An array axis is never permuted or flipped on the way: what comes in
axis by axis goes out axis by axis, with the affine telling where it lies.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
READABLE_SUFFIXES = (*NIFTI_SUFFIXES, ".mgz", ".mgh", ".img", ".hdr")
MIN_SPACING_MM, MAX_SPACING_MM = 0.01, 50.0


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
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(f"{name}: its affine is singular or not finite, so no voxel has a place; repair the header")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        size = " x ".join(f"{s:.4g}" for s in spacing)
        raise UserError(
            f"{name}: voxels of {size} mm are not those of an MRI scan "
            f"({MIN_SPACING_MM} to {MAX_SPACING_MM} mm); repair the header's spacing or its unit"
        )


def _open(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.exists():
        raise UserError(f"{path}: no such file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name one image file in it")
    if not path.name.lower().endswith(READABLE_SUFFIXES):
        raise UserError(f"{path.name}: cannot read this format; convert it to NIfTI (.nii or .nii.gz) first")
    try:
        return nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError, zlib.error) as error:
        raise UserError(f"{path.name}: not a readable image ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _header_facts(image: Any) -> dict[str, Any]:
    header = image.header
    facts: dict[str, Any] = {}
    if hasattr(header, "get_sform") and "sform_code" in header:
        facts["sform_code"], facts["qform_code"] = int(header["sform_code"]), int(header["qform_code"])
        facts["xyzt_units"] = int(header["xyzt_units"])
        facts["descrip"] = bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")
    return facts


def load_series(path: str | Path) -> list[Volume]:
    """Read an image file: one `Volume` for a 3D image, one per time point for a 4D one.

    Intensities are in the file's own units (``scl_slope`` and ``scl_inter`` applied), float32; the affine is
    the sform, else the qform, in mm.

    Raises:
        UserError: the file is missing, truncated, of another format, complex or RGB, not 3D or 4D, holds NaN
            or infinite voxels, or has an impossible affine.
    """
    path = Path(path)
    image = _open(path)
    name = path.name
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3:
        raise UserError(f"{name}: has {len(shape)} axes; a volume has three")
    if len(shape) > 4:
        raise UserError(f"{name}: has {len(shape)} axes of size {shape}; expected a 3D image or a 4D series")
    if min(shape) == 0:
        raise UserError(f"{name}: is empty (shape {shape})")
    dtype = np.dtype(image.get_data_dtype())
    if dtype.fields is not None:
        raise UserError(f"{name}: holds RGB colours; expected one intensity per voxel")
    if dtype.kind == "c":
        raise UserError(f"{name}: holds complex voxels; save the magnitude image first")
    affine = np.asarray(image.affine, dtype=np.float64)
    facts = _header_facts(image)
    unit_to_mm = {1: 1000.0, 3: 0.001}.get(int(facts.get("xyzt_units", 2)) & 7, 1.0)
    affine[:3] *= unit_to_mm
    _check_affine(affine, name)
    try:
        data = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))
    except (OSError, ValueError, EOFError, zlib.error, MemoryError) as error:
        raise UserError(
            f"{name}: the voxels cannot be read, the file is truncated or corrupt ({_one_line(error)})"
        ) from error
    data = data.reshape(shape)
    if not np.isfinite(data).all():
        bad = int(data.size - np.isfinite(data).sum())
        raise UserError(f"{name}: {bad} voxels are NaN or infinite; replace them first")
    facts["source"] = name
    frames = [data] if data.ndim == 3 else [data[..., t] for t in range(data.shape[3])]
    return [Volume(np.ascontiguousarray(frame), affine, provenance=facts) for frame in frames]


def load(path: str | Path) -> Volume:
    """Read a 3D image; see `load_series`.

    Raises:
        UserError: as `load_series`, and if the image is a 4D series.
    """
    volumes = load_series(path)
    if len(volumes) > 1:
        raise UserError(f"{Path(path).name}: is a series of {len(volumes)} volumes; expected one volume")
    return volumes[0]


def save(volumes: Volume | Sequence[Volume], path: str | Path) -> Path:
    """Write one volume, or a series on one grid, as float32 NIfTI in the input's units of intensity.

    The sform holds the affine; the qform holds it too unless the affine has shear, which a qform cannot
    express. Form codes are the source's. The file appears whole or not at all.

    Raises:
        UserError: the name is not a NIfTI name, its folder does not exist, or it cannot be written.
    """
    import nibabel

    path = Path(path)
    check_output(path)
    series = [volumes] if isinstance(volumes, Volume) else list(volumes)
    data = series[0].data if len(series) == 1 else np.stack([v.data for v in series], axis=-1)
    affine, facts = series[0].affine, series[0].provenance
    image = nibabel.nifti1.Nifti1Image(data, affine)
    header = image.header
    sform_code = int(facts.get("sform_code", 0)) or int(facts.get("qform_code", 0)) or 1
    qform_code = int(facts.get("qform_code", 0)) or sform_code
    image.set_sform(affine, code=sform_code)
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sheared = not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4)
    image.set_qform(affine, code=0 if sheared else qform_code)
    header.set_xyzt_units(xyz="mm", t="sec" if len(series) > 1 else None)
    header["descrip"] = str(facts.get("descrip", "")).encode("latin-1", "replace")[:79]
    suffix = ".nii.gz" if path.name.lower().endswith(".gz") else ".nii"
    partial = path.with_name(f".{path.name}.partial{suffix}")
    try:
        nibabel.save(image, partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({_one_line(error)})") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def check_output(path: str | Path) -> None:
    """Refuse an output name before any work is done for it.

    Raises:
        UserError: the name is not a NIfTI name or its folder does not exist.
    """
    path = Path(path)
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        raise UserError(f"{path.name}: the output must be a NIfTI file (.nii or .nii.gz)")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; make it first")
