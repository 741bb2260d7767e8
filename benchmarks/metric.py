"""What a metric says about itself (plain data), what it is given and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray, Volume


Direction = Literal["higher", "lower", "nearest zero"]


@dataclass(frozen=True)
class MetricSpec:
    """A registered metric: everything about it that needs no torch.

    ``convention`` says how the value is computed (range, window, region) and belongs beside the name in every table.
    A ``direction`` of "nearest zero" is of signed errors: they are shown and not ranked, since their mean over subjects
    may be near zero while each is far from it. ``ranked`` metrics may order methods; ``reference`` metrics compare with
    HR. ``compute`` is ``"module:function"``; the function takes a `Comparison` and the wanted keys and returns the
    `Score`\\ s of all of them, so that metrics of one function share their work. ``parameters`` is
    ``"module:function"`` for a metric with parameters of its own: the function takes the key and gives the SHA-256 of
    each parameter file by name, and why the metric cannot be computed here (None if it can).
    """

    name: str
    version: int
    direction: Direction
    units: str
    summary: str
    source: str
    convention: str
    ranked: bool
    reference: bool
    compute: str = ""
    parameters: str = ""


@dataclass(frozen=True)
class Score:
    """One value of one metric: of the subject, of one slice, or of one ``structure``. Never NaN or infinite.

    A ``value`` of None comes with the ``reason``; ``mark`` is a short note on a value that needs one; ``curve`` is what
    the value was read from, where that is worth storing: lists of numbers by name.
    """

    metric: str
    value: float | None
    slice: int | None = None
    reason: str | None = None
    mark: str | None = None
    structure: str | None = None
    curve: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """SR (finite, float32, on the grid of ``reference.hr``) with all that a metric may look at.

    ``lr``, ``degradation`` and ``params`` are the measured LR and how it was made, if that is known; ``labels`` the
    exact labels of the tissues on the grid of HR, where the object is known; ``parameters`` are explicit parameter
    files by metric key.
    """

    sr: FloatArray
    reference: Reference
    lr: Volume | None = None
    degradation: Degradation | None = None
    params: Mapping[str, Any] | None = None
    parameters: Mapping[str, Path] = field(default_factory=dict)
    labels: npt.NDArray[np.int16] | None = None
