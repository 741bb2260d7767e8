"""The loss curves of a training, drawn from the trainer's JSONL log."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A", "#882255")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008), its yellow, too faint on white, left out."""
INK, QUIET = "#1A1A1A", "#5A5A5A"
ADVERSARIAL = {"d_loss": "critic loss", "g_loss": "generator loss", "em_distance": "earth mover's distance"}
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass
class Stage:
    """The records of one training stage that count, and the first step of it on the common axis."""

    name: str
    records: list[dict[str, Any]] = field(default_factory=list)
    offset: int = 0

    def curve(self, key: str) -> Curve:
        """Steps on the common axis and the finite values recorded under ``key``."""
        pairs = [(self.offset + r["step"], r[key]) for r in self.records if _finite(r.get(key))]
        points = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return points[:, 0], points[:, 1]

    @property
    def last_step(self) -> int:
        """The highest step of the stage, counted as the log does."""
        return max(int(record["step"]) for record in self.records)


def read_log(log: Path) -> list[Stage]:
    """The stages of a trainer's JSONL log, in order, without what a resumed training did over again.

    A record is ``{"stage", "step", "seconds", ...}``. When the log goes back, to an earlier step or stage, the later
    records win. A truncated last line is left out. Steps that start anew with every stage are put one after another.

    Raises:
        UserError: the file is missing, a line before the last is no record, or there is no record.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{log}: the training log cannot be read ({error.strerror or error})") from error
    stages: list[Stage] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            if number == len(lines):
                break
            raise UserError(f"{log.name}, line {number}: expected a JSON object with stage and step; repair or drop it")
        _add(stages, record)
    if not stages:
        raise UserError(f"{log.name}: holds no training record yet; train for some steps first")
    for before, stage in pairwise(stages):
        end = before.offset + before.last_step
        first = min(int(record["step"]) for record in stage.records)
        stage.offset = before.offset if before.offset + first >= end else end
    return stages


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("stage"), str):
        return None
    return record if _finite(record.get("step")) else None


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _add(stages: list[Stage], record: dict[str, Any]) -> None:
    known = next((index for index, stage in enumerate(stages) if stage.name == record["stage"]), None)
    if known is None:
        stages.append(Stage(record["stage"], [record]))
        return
    del stages[known + 1 :]
    stage = stages[known]
    if record["step"] < stage.last_step:
        stage.records = [kept for kept in stage.records if kept["step"] < record["step"]]
    stage.records.append(record)


def smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred moving average over about a fortieth of the values (at least 5), one-sided at the ends."""
    reach = max(5, len(values) // 40) // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    middle = np.arange(len(values))
    start, stop = np.maximum(middle - reach, 0), np.minimum(middle + reach + 1, len(values))
    return np.asarray((total[stop] - total[start]) / (stop - start))


def draw_curves(log: Path, out: Path) -> Path:
    """Draw a trainer's log as PNG at ``out``: training loss, adversarial terms, validation with baseline and best step.

    Raises:
        UserError: as `read_log`, or ``out`` cannot be written.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    stages = read_log(log)
    panels: list[tuple[float, Callable[[Any, Sequence[Stage]], None]]] = []
    if _has(stages, "loss"):
        panels.append((1.0, _draw_loss))
    if any(_has(stages, key) for key in ADVERSARIAL):
        panels.append((0.8, _draw_adversarial))
    if _has(stages, "val_psnr") or _has(stages, "val_loss"):
        panels.append((1.0, _draw_validation))
    if not panels:
        raise UserError(f"{log.name}: holds neither loss nor validation values, so there is nothing to draw")
    with matplotlib.style.context("default"):
        heights = [height for height, _ in panels]
        high = 0.95 + 2.3 * sum(heights)
        figure = Figure(figsize=(8.5, high), dpi=DPI, facecolor="white")
        grid = {"height_ratios": heights, "left": 0.085, "right": 0.975, "hspace": 0.1}
        grid |= {"top": 1 - 0.52 / high, "bottom": 0.45 / high}
        column = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
        for axes, (_, draw) in zip(column, panels, strict=True):
            _prepare(axes, stages)
            draw(axes, stages)
        _annotate(figure, list(column), stages)
        return save_png(figure, out)


def _has(stages: Sequence[Stage], key: str) -> bool:
    return any(stage.curve(key)[0].size for stage in stages)


def _prepare(axes: Any, stages: Sequence[Stage]) -> None:
    """Frame, grid and shaded stages: every second one is light grey."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_linewidth(0.6)
    axes.tick_params(labelsize=7, length=2.5, width=0.6, color=QUIET)
    axes.grid(axis="y", color="#E2E2E2", lw=0.5)
    axes.set_axisbelow(True)
    starts, end = _starts(stages)
    for number, (low, high) in enumerate(zip(starts, [*starts[1:], end], strict=True)):
        if number % 2:
            axes.axvspan(low, high, color="#F3F3F3", lw=0, zorder=0)


def _starts(stages: Sequence[Stage]) -> tuple[list[int], int]:
    """Where each stage starts on the common axis, and where the last ends."""
    ends = [stage.offset + stage.last_step for stage in stages]
    return [0, *ends[:-1]], ends[-1]


def _draw_loss(axes: Any, stages: Sequence[Stage]) -> None:
    values = np.concatenate([stage.curve("loss")[1] for stage in stages])
    if values.min() > 0:
        axes.set_yscale("log")
        _plain_log_ticks(axes)
    for stage in stages:
        steps, loss = stage.curve("loss")
        if not len(steps):
            continue
        axes.plot(steps, loss, color=OKABE_ITO[0], lw=0.5, alpha=0.3)
        axes.plot(steps, smoothed(loss), color=OKABE_ITO[0], lw=1.4)
    axes.set_ylabel("training loss", fontsize=8, color=INK)


def _plain_log_ticks(axes: Any) -> None:
    """Decimal numbers at 1, 2 and 5 of every decade: a loss seldom spans more than one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _draw_adversarial(axes: Any, stages: Sequence[Stage]) -> None:
    drawn = [(key, label) for key, label in ADVERSARIAL.items() if _has(stages, key)]
    for number, (key, label) in enumerate(drawn):
        color = OKABE_ITO[number + 1]
        for stage in stages:
            steps, values = stage.curve(key)
            if len(steps):
                axes.plot(steps, values, color=color, lw=0.5, alpha=0.25)
                axes.plot(steps, smoothed(values), color=color, lw=1.2, label=label)
                label = ""
    axes.axhline(0, color=QUIET, lw=0.5)
    _legend(axes)
    axes.set_ylabel("adversarial terms", fontsize=8, color=INK)


def _legend(axes: Any) -> None:
    axes.legend(
        fontsize=7, loc="best", frameon=True, framealpha=0.85, edgecolor="none", borderpad=0.3, handlelength=1.8
    )


def _draw_validation(axes: Any, stages: Sequence[Stage]) -> None:
    """PSNR (the loss where no PSNR was recorded), the interpolation's as a dashed line, the best step of each stage."""
    psnr = _has(stages, "val_psnr")
    key, unit = ("val_psnr", " dB") if psnr else ("val_loss", "")
    label = "validation"
    for stage in stages:
        steps, values = stage.curve(key)
        if not len(steps):
            continue
        axes.plot(steps, values, color=OKABE_ITO[2], lw=1.4, marker="o", ms=1.8, label=label)
        label = ""
        best = int(values.argmax() if psnr else values.argmin())
        axes.plot(steps[best], values[best], "*", color=OKABE_ITO[1], ms=8, mec="white", mew=0.5, zorder=5)
        text = f"{values[best]:.2f}{unit}" if psnr else f"{values[best]:.4g}"
        late = steps[best] > 0.85 * _starts(stages)[1]
        place = {"xytext": (-5 if late else 5, 5), "textcoords": "offset points", "ha": "right" if late else "left"}
        text = f"best {text} at step {steps[best]:,.0f}"
        axes.annotate(text, (steps[best], values[best]), fontsize=7, color=OKABE_ITO[1], **place)
    baseline = np.concatenate([stage.curve("val_baseline_psnr")[1] for stage in stages])
    if psnr and len(baseline):
        name = _baseline_name(stages)
        axes.axhline(baseline[-1], color=INK, lw=1.0, ls=(0, (5, 3)), label=f"{name}, {baseline[-1]:.2f} dB")
    axes.margins(y=0.16)
    _legend(axes)
    axes.set_ylabel("validation PSNR, dB" if psnr else "validation loss", fontsize=8, color=INK)


def _baseline_name(stages: Sequence[Stage]) -> str:
    names = [record["val_baseline"] for stage in stages for record in stage.records if "val_baseline" in record]
    return str(names[-1]) if names else "interpolation"


def _annotate(figure: Figure, column: Sequence[Any], stages: Sequence[Stage]) -> None:
    """Names of the stages above the first panel, what is the light line, the time taken."""
    starts, end = _starts(stages)
    for stage, low, high in zip(stages, starts, [*starts[1:], end], strict=True):
        place = {"transform": column[0].get_xaxis_transform(), "ha": "center", "va": "bottom"}
        column[0].text((low + high) / 2, 1.03, stage.name, fontsize=8, fontweight="bold", color=INK, **place)
    column[-1].set_xlim(0, max(end, 1))
    column[-1].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    column[-1].set_xlabel("optimiser steps", fontsize=8, color=INK)
    note = "light: every record; line: moving average; star: best checkpoint"
    seconds = training_seconds(stages)
    if seconds:
        note += f"  ·  {_duration(seconds)} of training"
    high = figure.get_size_inches()[1]
    figure.text(0.975, 1 - 0.1 / high, note, fontsize=7, color=QUIET, ha="right", va="top")


def training_seconds(stages: Sequence[Stage]) -> float:
    """Time taken, s, whether ``seconds`` runs through or starts anew with a stage or a resumption."""
    total = last = 0.0
    for record in (record for stage in stages for record in stage.records):
        seconds = _number(record, "seconds")
        if seconds is None:
            continue
        total += seconds - last if seconds >= last else seconds
        last = seconds
    return total


def _number(record: Mapping[str, Any], key: str) -> float | None:
    return float(record[key]) if _finite(record.get(key)) else None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def save_png(figure: Figure, path: Path) -> Path:
    """Write ``figure`` under a temporary name, then rename it; equal figures become equal files.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path}: the figure cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return path
