"""Pictures for the page: slices of a procedural head, HR, LR and methods, and where each differs from HR.

No picture of a person is ever on the page: these come from the phantom alone. They show what a method does to edges and
textures, not what it does to heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.dataset import Pair
    from mrsr_bench.volume import FloatArray, Volume

DATASET = "phantom_2mm"
TASKS = ("kspace-2x2x1", "thick-4", "inplane-4x4x1", "inplane-8x8x1", "inplane-1x4x1", "inplane-1x8x1")
MODELS = (
    *("nearest", "linear", "cubic", "zero_fill"),
    *("fsrcnn3d", "gan_circle", "gan_cpce", "srdensenet3d", "mdcsrn_gan", "mdcsrn"),
    *("soup_gan", "soup_single_4", "soup_multi", "srgan_through_plane"),
    *("srgan_4x", "srresnet2d_4x", "srgan_8x", "srresnet2d_8x"),
    *("srgan_aniso_4x", "srresnet2d_aniso_4x", "srgan_aniso_8x", "srresnet2d_aniso_8x"),
)
"""Interpolations first, the best of each task last: that is what the viewer shows beside HR at first."""
TOO_SLOW = {"srresnet3d": 80}
"""Methods of those tasks that would hold up the building of a site: seconds of one processor for one head."""
SLICES = 12
EXTENT = (0.2, 0.85)
"""First and last slice, as shares of the head's extent along the direction of view."""
DIFFERENCE_RANGE = 0.2
"""Share of the range of HR at which a difference map is saturated."""
MARGIN = 8
"""Voxels of the head kept beyond the first and last slice: what a network sees there is not cut off."""
MAGNIFIED = 3
"""Pixels of a picture per voxel: browsers would smooth what is enlarged later."""


@dataclass(frozen=True)
class Picture:
    """One image over all slices: its files and those of its difference to HR, and the RMS difference per slice, %.

    ``method`` is the name that ``key``, which may be an alias, stands for.
    """

    key: str
    label: str
    method: str
    files: tuple[str, ...]
    differences: tuple[str, ...] = ()
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stack:
    """All pictures of one task; ``missing`` says which methods have none and why."""

    task: str
    summary: str
    plane: str
    positions: tuple[float, ...]
    width: int
    height: int
    pictures: tuple[Picture, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


def render_stacks(out: Path, models: Sequence[str] = MODELS, tasks: Sequence[str] = TASKS) -> list[Stack]:
    """Write the PNG files of every task below ``out`` and say what they are.

    Raises:
        UserError: a method or task is unknown.
    """
    from mrsr_bench.zoo.methods import methods

    for model in models:
        methods.get(model)
    return [_stack(out / task, get_protocol(task), models) for task in tasks]


def _acquired(hr: Volume, protocol: Protocol, subject: str) -> Pair:
    import numpy as np

    from mrsr_bench.benchmarks.dataset import Pair
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.protocol import subject_seed

    degradation = degradations.get(protocol.degradation)
    params = degradation.sample(np.random.default_rng(subject_seed(0, subject)), hr, protocol.settings)
    return Pair(degradation.apply(hr, params), degradation.reference(hr, params), params)


def _seen(hr: Volume, axis: int, indices: Sequence[int], *, apart: bool) -> tuple[Volume, list[int]]:
    """The part of a head that is looked at, and where the slices are in it: whole heads would take too long.

    ``apart``: what is done to a slice does not depend on its neighbours; then it is a stack of these slices, with gaps.
    """
    step = (indices[-1] - indices[0]) // (SLICES - 1) if apart else 1
    start, stop = [0, 0, 0], list(hr.data.shape)
    if step > 1:
        start[axis], stop[axis] = indices[0], indices[0] + step * (SLICES - 1) + 1
        slab = hr.cropped(start, stop)
        steps = [step if a == axis else 1 for a in range(3)]
        data = slab.data[tuple(slice(None, None, s) for s in steps)]
        return slab.with_data(data, slab.grid.resized(data.shape, steps, (0, 0, 0))), list(range(SLICES))
    start[axis], stop[axis] = max(indices[0] - MARGIN, 0), min(indices[-1] + MARGIN + 1, stop[axis])
    return hr.cropped(start, stop), [index - start[axis] for index in indices]


def _stack(out: Path, protocol: Protocol, models: Sequence[str]) -> Stack:
    import numpy as np

    from mrsr_bench.benchmarks.datasets import datasets
    from mrsr_bench.benchmarks.entrants import can_do
    from mrsr_bench.benchmarks.metrics.region import reference_of
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.regrid import regrid

    case = datasets.get(DATASET).cases("test")[0]
    pair = _acquired(case.hr(), protocol, case.subject)
    reference = reference_of(pair.hr, pair.lr)
    axis = 2 if protocol.factor[2] == 1 else 1
    inside = np.flatnonzero(reference.region.any(axis=tuple(a for a in range(3) if a != axis)))
    first, last = (inside[0] + share * np.ptp(inside) for share in EXTENT)
    indices = [round(float(place)) for place in np.linspace(first, last, SLICES)]
    hr, indices = _seen(case.hr(), axis, indices, apart=protocol.degradation == "bicubic_downsample")
    pair = _acquired(hr, protocol, case.subject)
    volumes = {
        "HR": ("HR, the reference", "", pair.hr.data),
        "LR": ("LR, as acquired (nearest voxel)", "", regrid(pair.lr, pair.hr.grid, "nearest").data),
    }
    slow = {name: s for name, s in TOO_SLOW.items() if name not in models and can_do(methods.get(name), protocol)}
    missing = {name: too_slow(seconds) for name, seconds in slow.items()}
    for model in models:
        if not can_do(methods.get(model), protocol):
            continue
        try:
            volumes[model] = _upscaled(model, protocol.name, pair)
        except UserError as error:
            missing[model] = str(error)
    out.mkdir(parents=True)
    pictures = [
        _picture(Picture(key, label, method, ()), out, data, pair.hr.data, reference.range, axis, indices)
        for key, (label, method, data) in volumes.items()
    ]
    height, width = (MAGNIFIED * n for n in _turned(pair.hr.data, axis, indices[0]).shape)
    return Stack(
        task=protocol.name,
        summary=protocol.summary,
        plane="axial" if axis == 2 else "coronal",
        positions=tuple(round(float((pair.hr.affine @ [*_centre(axis, i), 1])[axis]), 1) for i in indices),
        width=width,
        height=height,
        pictures=tuple(pictures),
        missing=missing,
    )


def too_slow(seconds: float) -> str:
    """Why a method has no picture."""
    return f"too slow to draw here: {seconds:g} s a head"


def _centre(axis: int, index: int) -> tuple[int, int, int]:
    return (index if axis == 0 else 0, index if axis == 1 else 0, index if axis == 2 else 0)


def _upscaled(model: str, task: str, pair: Pair) -> tuple[str, str, FloatArray]:
    from mrsr_bench.zoo.inference import load_method

    method = load_method(model, task=task)
    label = model if method.resolved == model else f"{model} ({method.resolved})"
    return label, method.resolved, method.upscale(pair.lr, pair.hr.grid).data


def _picture(
    named: Picture, out: Path, data: FloatArray, hr: FloatArray, range_: float, axis: int, indices: Sequence[int]
) -> Picture:
    import numpy as np

    files, differences, errors = [], [], []
    for number, index in enumerate(indices):
        image = _turned(data, axis, index) / range_
        grey = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
        files.append(_write(out / f"{named.key}-{number:02d}.png", grey))
        if named.key != "HR":
            difference = image - _turned(hr, axis, index) / range_
            errors.append(round(100 * float(np.sqrt(np.mean(difference**2))), 2))
            differences.append(_write(out / f"{named.key}-{number:02d}-difference.png", _diverging(difference)))
    return replace(named, files=tuple(files), differences=tuple(differences), errors=tuple(errors))


def _turned(data: FloatArray, axis: int, index: int) -> FloatArray:
    """A slice of a RAS+ volume with the patient's right on the left, and anterior or superior up."""
    import numpy as np

    return np.asarray(np.take(data, index, axis=axis)[::-1, ::-1].T, dtype=np.float32)


def _diverging(difference: FloatArray) -> npt.NDArray[np.uint8]:
    """Blue where too dark, white where equal, red where too bright: ColorBrewer's RdBu, safe for the colour-blind."""
    import numpy as np

    share = np.clip(difference / DIFFERENCE_RANGE, -1, 1)[..., None]
    blue, red = np.array([33, 102, 172]), np.array([178, 24, 43])
    colours: npt.NDArray[np.uint8] = np.rint(255 + np.abs(share) * (np.where(share < 0, blue, red) - 255)).astype(
        np.uint8
    )
    return colours


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> str:
    """Write a PNG, magnified by whole pixels; returns its path below the pictures' folder."""
    from PIL import Image

    large = pixels.repeat(MAGNIFIED, axis=0).repeat(MAGNIFIED, axis=1)
    Image.fromarray(large).save(path)
    return f"{path.parent.name}/{path.name}"
