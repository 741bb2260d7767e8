"""Fidelity to the measurement: does SR, acquired the same way, give the LR volume again?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score


def fidelity_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """data_consistency: NRMSE between re-degraded SR and LR; None where LR's making is not known or not repeatable."""
    value, reason = _data_consistency(comparison)
    return [Score(key, value, reason=reason) for key in keys]


def _data_consistency(comparison: Comparison) -> tuple[float | None, str | None]:
    import numpy as np

    lr, degradation, params = comparison.lr, comparison.degradation, comparison.params
    if lr is None or degradation is None or params is None:
        return None, "needs the LR volume and the degradation that made it from HR"
    sr = replace(comparison.reference.hr, data=comparison.sr)
    try:
        again = degradation.apply(sr, params)
    except UserError as error:
        return None, f"SR cannot be degraded again: {error}"
    if not again.grid.same_as(lr.grid):
        return None, "the scored part of SR, degraded again, does not lie on the grid of LR"
    measured = lr.data.astype(np.float64)
    power = float(np.vdot(measured, measured))
    if power == 0:
        return None, "LR is zero everywhere"
    error_ = again.data - measured
    return math.sqrt(float(np.vdot(error_, error_)) / power), None


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="data_consistency",
        version=1,
        direction="lower",
        units="1",
        summary="does SR, acquired as LR was, give LR again?",
        source="NRMSE between the re-degraded SR and the measured LR",
        convention="SR degraded with the recorded parameters (noise of the recorded seed included); "
        "RMSE over all LR voxels / root mean square of LR",
        ranked=False,
        reference=False,
        compute=f"{__name__}:fidelity_scores",
    ),
)
