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
from typing import TYPE_CHECKING, Any, get_args

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

if TYPE_CHECKING:
    from mrsr_bench.zoo.method import MethodSpec
    from mrsr_bench.zoo.walks import Placement

PROFILES: tuple[AxisKind, ...] = ("box", "gaussian", "sample", "kspace")
THICK_RATIO = 1.5
"""An axis whose spacing exceeds the finest one by more is taken for the slice axis of a 2D scan."""
MAX_FACTOR = 64.0
BEYOND = 1.5
"""A network is not used for a factor that differs by more than this ratio from what it was trained for."""
TOLD: dict[AxisKind, str] = {
    "kspace": "truncated k-space",
    "box": "thick slices",
    "gaussian": "thick slices of a Gaussian profile",
    "sample": "point samples",
    "bicubic": "bicubic downsampling",
    "full": "fully acquired",
    "unknown": "an unknown acquisition",
}
"""How each kind of acquisition is called in a sentence."""
_SAME_SPACING = 1e-3
_SAME_FACTOR = 0.05
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


def parse_settings(texts: Sequence[str]) -> dict[str, bool | int | float | str]:
    """Settings of a network written ``NAME=VALUE``; a value is read as YAML reads it.

    Raises:
        UserError: one is anything else.
    """
    import yaml

    found: dict[str, bool | int | float | str] = {}
    for text in texts:
        name, _, written = text.partition("=")
        try:
            value = yaml.safe_load(written)
        except yaml.YAMLError:
            value = None
        if not name.isidentifier() or not isinstance(value, (bool, int, float, str)):
            raise UserError(f"--set is NAME=VALUE, such as blend=parameters; got {text!r}")
        found[name] = value
    return found


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
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Upscale a 3D image, or every volume of a 4D series, and write float32 NIfTI in the input's units and axes.

    Exactly one of ``factor`` ("2x2x1") and ``spacing`` ("1x1x1", mm), in world order R x A x S; ``slice_thickness`` in
    mm; ``settings`` as in `load_method`. What had to be assumed is said on stderr. Nothing is overwritten. Returns the
    facts of the run (JSON-able).

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

    acquired = [volume.with_data(volume.data, acquisition=guess.acquisition) for volume in series]
    method = load_method(
        model,
        task=None,
        weights=weights,
        device=device,
        autocast=autocast,
        lr=acquired[0],
        target=target,
        settings=settings,
    )
    order = grid.world_to_array()
    if method.trained_for:
        notes += fit_of(method.spec, method.trained_for, acquired[0], target)
    _say(source, notes)
    upscaled, seconds = [], []
    for lr in acquired:
        started = time.perf_counter()
        upscaled.append(_finite(method.upscale(lr, target), model, source))
        seconds.append(time.perf_counter() - started)
    _say(source, method.notes)
    notes += method.notes
    save(upscaled, destination)
    return {
        "input": str(source),
        "output": str(destination),
        "model": model,
        "resolved": str(method.resolved),
        **({"settings": dict(settings)} if settings else {}),
        "factor": [by_axis[axis] for axis in order],
        "shape": list(target.shape),
        "spacing": list(target.spacing),
        "volumes": len(series),
        "acquisition": [{"kind": a.kind, "width": a.width, "gap": a.gap} for a in guess.acquisition],
        "seconds_per_volume": sorted(seconds)[len(seconds) // 2],
        "notes": list(notes),
    }


def fit_of(spec: MethodSpec, tasks: Sequence[Mapping[str, Any]], lr: Volume, target: Grid) -> tuple[str, ...]:
    """What must be said of a network that was trained for ``tasks`` and is to make ``lr`` into ``target``.

    The degraded axes may be others than those of the training (they take their places); what counts is how many there
    are, by how much, and how they were acquired. A conditioned network serves every factor from 1 to the largest that
    it was trained for; an upscaling one any whose output can be brought onto the target; the others those trained for.

    Raises:
        UserError: another number of axes is degraded, or a factor is beyond `BEYOND` times what was trained, so that
            the output would mean nothing.
    """
    from mrsr_bench.zoo.walks import DEGRADED, factors, place, task_distance, task_factor

    nearest = min(tasks, key=lambda task: task_distance(task, lr, target))
    at = place(lr, target, nearest)
    by_world = "x".join(f"{f:.3g}" for f in factors(lr.grid, target))
    known = sorted({"x".join(f"{f:.3g}" for f in task_factor(task)) for task in tasks})
    trained = f"{spec.name} was trained for the factor {', '.join(known)} ({nearest['degradation']})"
    pattern = task_factor(nearest)
    lowest = [1.0 if spec.conditioned or spec.scale is not None else f for f in pattern]
    highest = [max(task_factor(task)[p] for task in tasks) for p in range(3)]
    if spec.scale is None and not spec.conditioned:
        highest = list(pattern)
    same_axes = [f > DEGRADED for f in at.factor] == [f > DEGRADED for f in pattern]
    apart = [max(have / high, low / have, 1.0) for have, low, high in zip(at.factor, lowest, highest, strict=True)]
    if not same_axes or max(apart) > BEYOND:
        raise UserError(
            f"{trained}, not for {by_world}; ask for --factor {known[0]} or one near it, or use an interpolation"
        )
    notes = []
    if max(apart) > 1 + _SAME_FACTOR:
        notes.append(f"{trained}; {by_world} is beyond that, so do not trust its detail")
    notes += _kinds_differ(spec, tasks, at, lr)
    return tuple(notes)


def _kinds_differ(spec: MethodSpec, tasks: Sequence[Mapping[str, Any]], at: Placement, lr: Volume) -> list[str]:
    """A sentence where a degraded axis was acquired otherwise than what the network was trained on."""
    from mrsr_bench.zoo.walks import DEGRADED, task_kinds

    known = {task_kinds(task)[p] for task in tasks for p in range(3) if at.factor[p] > DEGRADED}
    found = {lr.acquisition[at.lr[p]].kind for p in range(3) if at.factor[p] > DEGRADED}
    if found <= known:
        return []
    taught = " and ".join(sorted(TOLD[kind] for kind in known))
    seen = " and ".join(sorted(TOLD[kind] for kind in found - known))
    return [f"{spec.name} was trained on {taught} and this image is {seen}, so do not trust its detail"]


def _say(source: Path, notes: Sequence[str]) -> None:
    for note in notes:
        print(f"{source.name}: {note}", file=sys.stderr)


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
