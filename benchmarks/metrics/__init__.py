"""Metrics: with reference, without, and of data consistency; each module declares ``METRICS``.

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
from mrsr_bench.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray, Volume

Compute = Callable[[Comparison, Sequence[str]], list[Score]]

metrics: Registry[MetricSpec] = Registry(
    "metric", "mrsr_bench.benchmarks.metrics", "METRICS", entry_points="mrsr_bench.metrics"
)


def score(
    sr: FloatArray,
    reference: Reference,
    keys: Sequence[str],
    *,
    lr: Volume | None = None,
    degradation: Degradation | None = None,
    params: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Path] | None = None,
) -> list[Score]:
    """Scores of ``sr`` (shape of ``reference.hr``, its intensity units) by the metrics called ``keys``, in their order.

    Each key gives one score of the subject (``slice`` None); slice-wise metrics add one per slice. ``lr``,
    ``degradation`` and ``params`` serve `data_consistency`; ``parameters`` names parameter files by metric key.

    Raises:
        UserError: a key is unknown, or SR has another shape or holds NaN or infinite voxels.
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
    comparison = Comparison(sr, reference, lr, degradation, params, dict(parameters or {}))
    groups: dict[str, list[str]] = {}
    for key, spec in specs.items():
        groups.setdefault(spec.compute, []).append(key)
    found: dict[str, list[Score]] = {key: [] for key in specs}
    for compute, members in groups.items():
        for result in _function(compute)(comparison, members):
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
