"""Metrics: with reference, without, of fidelity, structure, resolution and overlap; each module declares ``METRICS``.

`score` computes any of them by key. Values are Python floats, never NaN or infinite; a metric that cannot be had gives
None and the reason.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score
from mrsr_bench.registry import Registry, typed_names

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray, Volume

Compute = Callable[[Comparison, Sequence[str]], list[Score]]

metrics: Registry[MetricSpec] = Registry(
    "metric", "mrsr_bench.benchmarks.metrics", "METRICS", entry_points="mrsr_bench.metrics"
)


def known_metrics(typed: Sequence[str]) -> tuple[str, ...]:
    """The names of metrics in what was ``typed`` (each may hold several, with commas), once each.

    Raises:
        UserError: one of them is unknown.
    """
    names = tuple(typed_names(typed))
    for name in names:
        metrics.get(name)
    return names


def score(
    sr: FloatArray,
    reference: Reference,
    keys: Sequence[str],
    *,
    lr: Volume | None = None,
    degradation: Degradation | None = None,
    params: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Path] | None = None,
    labels: npt.NDArray[np.int16] | None = None,
    structures: bool = False,
) -> list[Score]:
    """Scores of ``sr`` (shape of ``reference.hr``, its intensity units) by the metrics called ``keys``, in their order.

    Each key gives one score of the subject (``slice`` None); slice-wise metrics add one per slice, and with
    ``structures`` those of overlap add one per structure. ``lr``, ``degradation`` and ``params`` serve the metrics of
    fidelity, ``labels`` (exact, shape of HR) those of tissue overlap; ``parameters`` names parameter files by key.

    Raises:
        UserError: a key is unknown, SR or the labels have another shape, or SR holds NaN or infinite voxels.
    """
    import numpy as np

    specs = {key: metrics.get(key) for key in keys}
    if sr.shape != reference.hr.data.shape:
        raise UserError(
            f"the SR volume has shape {sr.shape} but HR has {reference.hr.data.shape}; compare volumes on one grid"
        )
    sr = np.asarray(sr, dtype=np.float32)
    if not np.isfinite(sr).all():
        bad = int(sr.size - np.isfinite(sr).sum())
        raise UserError(f"the SR volume holds {bad} NaN or infinite voxels and cannot be scored; repair the method")
    if labels is not None and labels.shape != sr.shape:
        raise UserError(f"the labels have shape {labels.shape} but HR has {sr.shape}; give the labels on HR's grid")
    comparison = Comparison(sr, reference, lr, degradation, params, dict(parameters or {}), labels)
    groups: dict[str, list[str]] = {}
    found: dict[str, list[Score]] = {key: [] for key in specs}
    for key, spec in specs.items():
        if spec.reference and not reference.is_hr:
            found[key] = [Score(key, None, reason="there is no HR to compare with")]
        else:
            groups.setdefault(spec.compute, []).append(key)
    for compute, members in groups.items():
        for result in _function(compute)(comparison, members):
            if structures or result.structure is None:
                found[result.metric].append(_finite(result))
    return [result for key in specs for result in found[key]]


def _function(compute: str) -> Compute:
    module, _, name = compute.partition(":")
    function: Compute = getattr(importlib.import_module(module), name)
    return function


def _finite(result: Score) -> Score:
    if result.value is None or math.isfinite(result.value):
        return result
    return replace(result, value=None, reason="the value is not finite: SR's intensities are out of all proportion")
