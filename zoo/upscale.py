"""Upscale an image file: which finer grid covers the same field of view, and what is known of how it was acquired.

The target grid runs along the input's own axes and covers its field of view. What that means depends on how an axis of
n samples was sampled, for a factor f (input spacing over target spacing):

==========================  =======================================  =========================================
acquisition                 samples, place of the first              why
==========================  =======================================  =========================================
kspace (and full)           round(n f), on the input's first         a periodic field of view, sample 0 stays
box, gaussian, bicubic      floor(n f), the voxel edges agree: the   a voxel is a stretch of the object
                            origin moves by -(f - 1)/2 new voxels
sample                      floor((n - 1) f) + 1, on the first       nothing is known beyond the outer slices
==========================  =======================================  =========================================

An axis that is not upscaled keeps its samples whatever its kind.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mrsr_bench import UserError
from mrsr_bench.volume import (
    FULLY_ACQUIRED,
    MAX_NIFTI_SIZE,
    MAX_SPACING_MM,
    MIN_SPACING_MM,
    AxisAcquisition,
    AxisKind,
    Grid,
    Triple,
    Volume,
    check_output,
    load_series,
    save,
)

PROFILES: tuple[AxisKind, ...] = ("box", "gaussian", "sample", "kspace")
THICK_RATIO = 1.5
"""An axis whose spacing exceeds the finest one by more is taken for the slice axis of a 2D scan."""
MAX_FACTOR = 64.0
_SAME_SPACING = 1e-3
_COUNT_TOLERANCE = 1e-4
"""Samples: n f that is whole but for the float32 rounding of headers."""
_COPIES_IN_MEMORY = 6
"""Of one float32 target volume: regridded input, output, sums and weights of tiles, and slack."""

Acquisition = tuple[AxisAcquisition, AxisAcquisition, AxisAcquisition]


@dataclass(frozen=True)
class Guess:
    """How an input was acquired, and what had to be assumed to say so."""

    acquisition: Acquisition
    notes: tuple[str, ...] = ()


def parse_triple(text: str, option: str) -> Triple:
    """Three numbers written ``RxAxS``, as ``2x2x1``.

    Raises:
        UserError: it is anything else.
    """
    try:
        numbers = [float(part) for part in text.lower().replace("×", "x").split("x")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(math.isfinite(n) and n > 0 for n in numbers):
        raise UserError(f"{option} is three numbers above 0, R x A x S, such as 2x2x1; got {text!r}")
    return (numbers[0], numbers[1], numbers[2])


def factor_of(grid: Grid, *, factor: str | None, spacing: str | None) -> Triple:
    """The factor along each array axis, from exactly one of a factor or a target spacing (mm), both R x A x S.

    Raises:
        UserError: both or neither are given, they cannot be parsed, the target would be coarser along an axis, or
            nothing would change.
    """
    if (factor is None) == (spacing is None):
        raise UserError("give either --factor (as 2x2x1) or --spacing (as 1x1x1, in mm), not both and not neither")
    if factor is not None:
        asked = parse_triple(factor, "--factor")
        if not all(1 <= f <= MAX_FACTOR for f in asked):
            raise UserError(f"--factor is from 1 to {MAX_FACTOR:g} along every axis, R x A x S; got {factor!r}")
        wanted = grid.factor_by_axis(asked)
    else:
        assert spacing is not None
        goal = parse_triple(spacing, "--spacing")
        if not all(MIN_SPACING_MM <= g <= MAX_SPACING_MM for g in goal):
            raise UserError(f"--spacing is from {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm; got {spacing!r}")
        ratio = [have / want for have, want in zip(grid.spacing, grid.factor_by_axis(goal), strict=True)]
        if min(ratio) < 1 - _SAME_SPACING:
            have = "x".join(f"{grid.spacing[axis]:.4g}" for axis in grid.world_to_array())
            raise UserError(
                f"--spacing {spacing} is coarser than the input's {have} mm (R x A x S) along an axis; "
                "ask for the input's spacing or a finer one there"
            )
        ratio = [1.0 if abs(r - 1) <= _SAME_SPACING else r for r in ratio]
        wanted = (ratio[0], ratio[1], ratio[2])
    if all(f == 1 for f in wanted):
        raise UserError("the input has that spacing already; ask for a factor above 1 or a finer spacing on some axis")
    return wanted


def target_grid(grid: Grid, acquisition: Acquisition, factor: Sequence[float]) -> Grid:
    """The grid that is finer by ``factor`` (per array axis) and covers the same field of view; see this module's table.

    Raises:
        UserError: an axis would exceed what a NIfTI file can hold.
    """
    shape, origin = [], []
    for n, f, axis in zip(grid.shape, factor, acquisition, strict=True):
        if f == 1:
            count, first = n, 0.0
        elif axis.kind in ("kspace", "full"):
            count, first = round(n * f), 0.0
        elif axis.kind == "sample":
            count, first = math.floor((n - 1) * f + _COUNT_TOLERANCE) + 1, 0.0
        else:
            count, first = math.floor(n * f + _COUNT_TOLERANCE), -(f - 1) / 2 / f
        shape.append(count)
        origin.append(first)
    if max(shape) > MAX_NIFTI_SIZE:
        asked = " x ".join(str(n) for n in shape)
        raise UserError(f"a target of {asked} voxels is too long for NIfTI ({MAX_NIFTI_SIZE} an axis); ask for less")
    return grid.resized(shape, [1 / f for f in factor], origin)


def guess_acquisition(
    grid: Grid,
    factor: Sequence[float],
    *,
    slice_thickness: float | None = None,
    profile: str | None = None,
    sidecar: dict[str, Any] | None = None,
) -> Guess:
    """How each array axis was acquired: as stated, else as the BIDS sidecar says, else as the spacing suggests.

    The slice axis is the coarsest one, the last of equals. In-plane axes, and every axis of a 3D scan, are encoded in
    k-space. ``slice_thickness`` in mm; ``profile`` is one of `PROFILES`.

    Raises:
        UserError: an impossible thickness or an unknown profile.
    """
    if profile is not None and profile not in PROFILES:
        raise UserError(f"--profile is one of {', '.join(PROFILES)}; got {profile!r}")
    if slice_thickness is not None and not 0 < slice_thickness <= MAX_SPACING_MM:
        raise UserError(f"--slice-thickness is above 0 and at most {MAX_SPACING_MM:g} mm; got {slice_thickness:g}")
    notes = []
    facts = sidecar or {}
    spacing = grid.spacing
    coarsest = max(range(3), key=lambda axis: (round(spacing[axis], 4), axis))
    kind: AxisKind | None = profile if profile is None else _as_kind(profile)
    thickness = slice_thickness if slice_thickness is not None else _positive(facts.get("SliceThickness"))
    scan = str(facts.get("MRAcquisitionType", "")).upper()
    if kind is None and slice_thickness is not None:
        kind = "box"
    elif kind is None and scan == "3D":
        kind = "kspace"
    elif kind is None and scan == "2D":
        kind = "box"
    elif kind is None and spacing[coarsest] > THICK_RATIO * min(spacing):
        kind = "box"
        assumed = thickness or spacing[coarsest]
        notes.append(
            f"it is not known how this image was acquired; its {spacing[coarsest]:.3g} mm axis is taken for slices of "
            f"{assumed:.3g} mm with a box profile (state --slice-thickness and --profile to change that)"
        )
    elif kind is None:
        kind = "kspace"
        notes.append(
            "it is not known how this image was acquired; it is taken for a 3D scan, every axis encoded in k-space "
            "(state --slice-thickness or --profile to change that)"
        )
    axes = [
        AxisAcquisition("kspace", width=size) if f != 1 else FULLY_ACQUIRED[axis]
        for axis, (size, f) in enumerate(zip(spacing, factor, strict=True))
    ]
    if kind != "kspace":
        assert kind is not None
        width = thickness if thickness is not None or kind == "sample" else spacing[coarsest]
        gap = max(spacing[coarsest] - width, 0.0) if width is not None else 0.0
        axes[coarsest] = AxisAcquisition(kind, width=width, gap=gap)
    return Guess((axes[0], axes[1], axes[2]), tuple(notes))


def read_sidecar(image: Path) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The BIDS JSON beside ``image`` (None if there is none), and a note if it is there and unreadable."""
    stem = image.name
    for suffix in (".gz", ".nii", ".mgz", ".mgh", ".img", ".hdr"):
        stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
    path = image.with_name(f"{stem}.json")
    if not path.is_file():
        return None, ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None, (f"{path.name} beside the image is not readable JSON and was left aside",)
    return (content, ()) if isinstance(content, dict) else (None, ())


def upscale_file(
    input: str | Path,  # noqa: A002
    output: str | Path,
    *,
    model: str,
    factor: str | None,
    spacing: str | None,
    slice_thickness: float | None = None,
    profile: str | None = None,
    weights: Path | None = None,
    device: str = "cpu",
    autocast: bool = False,
) -> dict[str, Any]:
    """Upscale a 3D image, or every volume of a 4D series, and write float32 NIfTI in the input's units and axes.

    Exactly one of ``factor`` ("2x2x1") and ``spacing`` ("1x1x1", mm), in world order R x A x S; ``slice_thickness`` in
    mm. What had to be assumed is said on stderr. Nothing is overwritten. Returns the facts of the run (JSON-able).

    Raises:
        UserError: an option, the input or the output is impossible, or the target does not fit into memory.
    """
    source, destination = Path(input), Path(output)
    check_output(destination)
    if destination.exists():
        raise UserError(f"{destination}: exists already and is never overwritten; name another output or remove it")
    series = load_series(source)
    grid = series[0].grid
    by_axis = factor_of(grid, factor=factor, spacing=spacing)
    sidecar, notes = read_sidecar(source)
    guess = guess_acquisition(grid, by_axis, slice_thickness=slice_thickness, profile=profile, sidecar=sidecar)
    notes += guess.notes
    target = target_grid(grid, guess.acquisition, by_axis)
    check_memory(target, len(series))

    from mrsr_bench.zoo.inference import load_method

    method = load_method(model, task=None, weights=weights, device=device, autocast=autocast)
    order = grid.world_to_array()
    notes += _fit_of(method.trained_for, [by_axis[axis] for axis in order], guess.acquisition, model)
    for note in notes:
        print(f"{source.name}: {note}", file=sys.stderr)
    upscaled, seconds = [], []
    for volume in series:
        lr = volume.with_data(volume.data, acquisition=guess.acquisition)
        started = time.perf_counter()
        upscaled.append(_finite(method.upscale(lr, target), model, source))
        seconds.append(time.perf_counter() - started)
    save(upscaled, destination)
    return {
        "input": str(source),
        "output": str(destination),
        "model": model,
        "resolved": str(method.resolved),
        "factor": [by_axis[axis] for axis in order],
        "shape": list(target.shape),
        "spacing": list(target.spacing),
        "volumes": len(series),
        "acquisition": [{"kind": a.kind, "width": a.width, "gap": a.gap} for a in guess.acquisition],
        "seconds_per_volume": sorted(seconds)[len(seconds) // 2],
        "notes": list(notes),
    }


def _fit_of(
    trained_for: Mapping[str, Any] | None, factor: Sequence[float], acquisition: Acquisition, model: str
) -> tuple[str, ...]:
    """What must be said of a network's training task and this image's.

    Raises:
        UserError: the network was trained for another factor, so that its output would mean nothing.
    """
    if trained_for is None:
        return ()
    trained = [float(f) for f in trained_for["parameters"]["factor"]]
    if not np.allclose(trained, factor, rtol=0.05):
        wanted, known = ("x".join(f"{f:.3g}" for f in fs) for fs in (factor, trained))
        raise UserError(
            f"{model} was trained for the factor {known} ({trained_for['degradation']}), not for {wanted}; "
            f"ask for --factor {known}, or use an interpolation"
        )
    kinds = {a.kind for a in acquisition} - {"full"}
    if trained_for["degradation"] == "kspace_truncation" and kinds != {"kspace"}:
        return (f"{model} was trained on truncated k-space; if this image was made otherwise, do not trust its detail",)
    return ()


def check_memory(target: Grid, volumes: int) -> None:
    """Refuse a target that the free memory cannot hold, before anything is computed.

    Raises:
        UserError: the estimate exceeds what is free.
    """
    import psutil

    needed = 4 * math.prod(target.shape) * (_COPIES_IN_MEMORY + 2 * volumes)
    available = int(psutil.virtual_memory().available)
    if needed > available:
        size = " x ".join(str(n) for n in target.shape)
        raise UserError(
            f"a target of {size} voxels needs about {needed / 2**30:.1f} GiB and {available / 2**30:.1f} GiB are free; "
            "ask for a smaller factor, crop the image or use a larger machine"
        )


def _finite(volume: Volume, model: str, source: Path) -> Volume:
    if not np.isfinite(volume.data).all():
        raise UserError(
            f"{source.name}: {model} gave voxels that are not finite, so nothing was written; try without --autocast, "
            "or another model"
        )
    return volume


def _as_kind(profile: str) -> AxisKind:
    return next(kind for kind in get_args(AxisKind) if kind == profile)


def _positive(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_SPACING_MM
    return float(value) if is_number else None  # type: ignore[arg-type]
