"""The degradation matrix: a method trained for one way of losing resolution, scored on the others.

Every row is a method with the weights of one task; its columns lose resolution by the same factor along the same axes
in other ways: truncated k-space, the same under a Hamming window, the same with noise, thick slices (box profile),
Gaussian profiles, thin slices (samples). All columns of a row use the same subjects and the same scored box. A column
may be easier than another for any method, so what counts is the gain in PSNR over an interpolation on the same LR; the
loss is the gain where the method was trained minus the gain in the column.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.benchmarks.statistics import MIN_SUBJECTS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mrsr_bench.benchmarks.dataset import Case, Dataset
    from mrsr_bench.benchmarks.evaluate import Notify
    from mrsr_bench.benchmarks.metrics.region import Box, Mask
    from mrsr_bench.zoo.inference import LoadedMethod

KINDS = ("kspace", "apodised", "noise", "thick", "gaussian", "thin")
AS_TRAINED = "as trained"
"""The column of a task that is none of `KINDS`."""
NOISE_SNR = 20.0
WINDOW = "hamming"
BASELINE = "cubic"
_SETTINGS: dict[str, dict[str, Any]] = {
    "kspace": {},
    "apodised": {"window": WINDOW},
    "noise": {"snr": NOISE_SNR},
    "thick": {"profile": "box"},
    "gaussian": {"profile": "gaussian"},
    "thin": {},
}

Task = tuple[str, dict[str, Any]]
"""A degradation's name and its settings."""


@dataclass(frozen=True)
class Request:
    """What ``mrsr-bench matrix`` was asked for; ``crop`` is the side of the scored box in voxels, None for all."""

    models: Sequence[str]
    dataset: str
    split: str | None = None
    subjects: int | None = 1
    suffix: str | None = None
    crop: int | None = 96
    baseline: str = BASELINE
    device: str = "auto"
    seed: int = 0


@dataclass
class _Row:
    """A method with weights of one task, and the PSNR of it and of the baseline by column and subject."""

    model: str
    task: str
    method: LoadedMethod
    factor: tuple[float, float, float]
    trained: str
    columns: dict[str, Task]
    psnr: dict[str, dict[str, float]] = field(default_factory=dict)
    baseline: dict[str, dict[str, float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def degradation_of(kind: str, factor: Sequence[float]) -> Task:
    """The degradation of one of `KINDS` by ``factor`` (R x A x S): of slices, one after another where two axes lose."""
    if kind in ("kspace", "apodised", "noise"):
        return "kspace_truncation", {"factor": list(factor), **_SETTINGS[kind]}
    name = "thin_slices" if kind == "thin" else "thick_slices"
    steps = [
        {"factor": [f if other == axis else 1 for other in range(3)], **_SETTINGS[kind]}
        for axis, f in enumerate(factor)
        if f != 1
    ]
    if len(steps) == 1:
        return name, steps[0]
    return "composed", {"steps": [{"degradation": name, "parameters": step} for step in steps]}


def kind_of(task: Task, factor: Sequence[float]) -> str:
    """Which of `KINDS` a task is, or `AS_TRAINED`."""
    from mrsr_bench.benchmarks.degradations import degradations

    def complete(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {**degradations.get(name).defaults, **settings, "name": name}

    return next((kind for kind in KINDS if complete(*degradation_of(kind, factor)) == complete(*task)), AS_TRAINED)


def degradation_matrix(request: Request, notify: Notify | None = None) -> dict[str, Any]:
    """The rows of every method asked for, as a JSON-able object.

    Raises:
        UserError: a name is unknown, no method has weights, or the dataset cannot be read.
    """
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.evaluate import by_subject, model_names
    from mrsr_bench.benchmarks.provenance import choose_device, exact_float32
    from mrsr_bench.zoo.inference import load_method

    if request.subjects is not None and request.subjects < 1:
        raise UserError(f"--subjects must be at least 1; got {request.subjects}")
    if request.crop is not None and request.crop < 16:
        raise UserError(f"--crop is at least 16 voxels; got {request.crop}")
    baseline = load_method(request.baseline, task=None)
    if baseline.spec.kind != "interpolation":
        raise UserError(f"--baseline is an interpolation; {request.baseline} is a network")
    rows = [row for name in model_names(request.models) for row in _rows(name, choose_device(request.device))]
    dataset = open_dataset(request.dataset, suffix=request.suffix)
    split = request.split or _split(dataset)
    subjects = by_subject(dataset.cases(split, seed=request.seed), request.subjects)
    if not subjects:
        raise UserError(f"{dataset.name} has no subject in the split {split}")
    done, total = 0, sum(len(row.columns) for row in rows) * len(subjects)
    with exact_float32():
        for subject, cases in subjects.items():
            for row in rows:
                for kind in row.columns:
                    if notify is not None:
                        notify(f"{subject}: {row.model} on {kind}", done, total)
                    _fill(row, kind, subject, cases[0], baseline, request)
                    done += 1
    return {
        "dataset": dataset.name,
        "split": split,
        "subjects": list(subjects),
        "seed": request.seed,
        "baseline": request.baseline,
        "crop": request.crop,
        "convention": "psnr over foreground and hull in the box, range q of HR; gain: psnr - that of the baseline; "
        "loss: gain where trained - gain in the column (dB)",
        "noise_snr": NOISE_SNR,
        "window": WINDOW,
        "rows": [_stated(row) for row in rows],
    }


def _split(dataset: Dataset) -> str:
    from mrsr_bench.benchmarks.datasets.folder import FolderDataset

    return "all" if isinstance(dataset, FolderDataset) else "test"


def _rows(name: str, device: str) -> Iterator[_Row]:
    """A row per file of weights that the method has here."""
    from mrsr_bench.zoo.inference import load_method
    from mrsr_bench.zoo.methods import methods

    spec = methods.get(name)
    if spec.kind == "interpolation":
        raise UserError(f"{name} is an interpolation and was trained for nothing; the baseline is named by --baseline")
    found: set[tuple[str | None, tuple[float, ...]]] = set()
    missing = ""
    for task in (task for task in spec.tasks if task in protocol_names()):
        try:
            method = load_method(name, task=task, device=device)
        except UserError as error:
            missing = str(error)
            continue
        protocol = get_protocol(task)
        if (method.weights_sha256, protocol.factor) in found:
            continue
        found.add((method.weights_sha256, protocol.factor))
        own: Task = (protocol.degradation, dict(protocol.settings))
        trained = kind_of(own, protocol.factor)
        columns = {kind: degradation_of(kind, protocol.factor) for kind in KINDS}
        if trained == AS_TRAINED:
            columns = {AS_TRAINED: own, **columns}
        yield _Row(name, task, method, protocol.factor, trained, columns)
    if not found:
        raise UserError(missing or f"{name} has no task to be trained for")


def _fill(row: _Row, kind: str, subject: str, case: Case, baseline: LoadedMethod, request: Request) -> None:
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.metrics.region import reference_of

    name, settings = row.columns[kind]
    try:
        pair = case.acquire(degradations.get(name), settings, request.seed)
        reference = reference_of(pair.hr, pair.lr)
        box = central_box(reference.region, request.crop)
        inside = reference.region[box]
        if not inside.any():
            raise UserError("no foreground lies in the box; make --crop larger")
        target = pair.hr.grid.cropped([s.start for s in box], [s.stop for s in box])
        hr = pair.hr.data[box][inside]
        found = []
        for method in (row.method, baseline):
            sr = method.upscale(pair.lr, target).data[inside]
            error = float(((sr.astype("float64") - hr) ** 2).mean())
            if not 0 < error < math.inf:
                raise UserError(f"{method.resolved} gave HR itself, or voxels that are not finite")
            found.append(10 * math.log10(reference.range**2 / error))
    except UserError as error:
        row.reasons[kind] = str(error)
        return
    row.psnr.setdefault(kind, {})[subject], row.baseline.setdefault(kind, {})[subject] = found


def central_box(region: Mask, crop: int | None) -> Box:
    """The box of ``crop`` voxels a side in the middle of the region's bounding box; all of it for None."""
    from mrsr_bench.benchmarks.metrics.region import bounding_box

    if crop is None:
        x, y, z = (slice(0, size) for size in region.shape)
        return (x, y, z)
    parts = []
    for outer, size in zip(bounding_box(region), region.shape, strict=True):
        start = min(max(0, (outer.start + outer.stop - crop) // 2), max(0, size - crop))
        parts.append(slice(start, min(size, start + crop)))
    return (parts[0], parts[1], parts[2])


def _stated(row: _Row) -> dict[str, Any]:
    gains = {
        kind: {subject: value - row.baseline[kind][subject] for subject, value in row.psnr[kind].items()}
        for kind in row.psnr
    }
    cells: dict[str, dict[str, Any]] = {}
    for kind in row.columns:
        if kind in row.reasons or kind not in gains:
            cells[kind] = {"psnr": None, "reason": row.reasons.get(kind, "not computed")}
            continue
        home = gains.get(row.trained, {})
        losses = {subject: home[subject] - gain for subject, gain in gains[kind].items() if subject in home}
        cells[kind] = {
            "psnr": _mean(row.psnr[kind].values()),
            "baseline": _mean(row.baseline[kind].values()),
            "gain": _mean(gains[kind].values()),
            "loss": _mean(losses.values()) if losses else None,
            "per_subject": {"psnr": row.psnr[kind], "gain": gains[kind], "loss": losses},
        }
    return {
        "model": row.model,
        "resolved": row.method.resolved,
        "weights_sha256": row.method.weights_sha256,
        "task": row.task,
        "trained_for": row.trained,
        "factor": list(row.factor),
        "degradations": {kind: {"degradation": d, "parameters": s} for kind, (d, s) in row.columns.items()},
        "cells": cells,
    }


def _mean(values: Any) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def write_json(found: Mapping[str, Any], path: Path) -> Path:
    """Write ``found`` to ``path``, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    from mrsr_bench.benchmarks.results import plain, write_text

    write_text(path, json.dumps(plain(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def table(found: Mapping[str, Any]) -> RenderableType:
    """Gain in dB by row and column, the loss below it; the column that a row was trained for in bold."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    rows = found["rows"]
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["cells"]))
    count = len(found["subjects"])
    shown = Table(title=escape(f"gain over {found['baseline']} (dB), {found['dataset']}, {count} subject(s)"))
    shown.add_column("method, trained for")
    for kind in kinds:
        shown.add_column(kind, justify="right")
    reasons = []
    for row in rows:
        cells = []
        for kind in kinds:
            cell = row["cells"].get(kind, {"psnr": None})
            if cell["psnr"] is None:
                cells.append("–")
                reasons += [f"{row['model']} on {kind}: {cell['reason']}"] if "reason" in cell else []
                continue
            loss = "" if cell["loss"] is None else f"\nloss {cell['loss']:.2f}"
            text = f"{cell['gain']:+.2f}"
            cells.append(f"[bold]{text}[/bold]" if kind == row["trained_for"] else text + loss)
        factor = "x".join(f"{f:g}" for f in row["factor"])
        shown.add_row(escape(f"{row['model']} = {row['resolved']}\n{row['task']} ({factor})"), *cells)
    lines = [*dict.fromkeys(reasons), found["convention"]]
    if found["crop"] is not None:
        lines.append(f"scored in the central box of {found['crop']} voxels a side, the same in every column")
    if count < MIN_SUBJECTS:
        lines.append(f"n = {count}: means without interval or test")
    return Group(shown, *(escape(line) for line in lines))
