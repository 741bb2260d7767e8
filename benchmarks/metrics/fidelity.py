"""Fidelity to the measurement: does SR give LR again, and is what it adds beyond LR's band there in HR?

The band is what LR's sampling can hold: frequencies under LR's Nyquist frequency along every degraded axis. Inside it
the measurement decides, and an error is a failure to keep what was measured. Outside it nothing was measured: leaving
it empty costs exactly 1, less is detail that is there in HR, more is detail that is not (hallucinated).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import FloatArray, Grid, Volume

_ON_THE_EDGE = 1e-6
"""Relative: a frequency this close to LR's Nyquist frequency is half measured, and counts neither in nor out."""


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


def band_energies(data: FloatArray, grid: Grid, lr: Volume, degraded: Sequence[int]) -> tuple[float, float]:
    """Energy of ``data`` (on ``grid``) inside and outside the band of ``lr`` along the ``degraded`` axes of ``grid``.

    Along an axis of truncated k-space the spectrum is Fourier's (periodic, as the measurement is); along any other it
    is the cosine transform, whose even continuation has no jump at the faces. Parseval: in units of ``data`` squared.

    Raises:
        UserError: the axes of the grids are not parallel.
    """
    import numpy as np
    from scipy import fft

    from mrsr_bench.zoo.regrid import parallel_axes

    found = parallel_axes(lr.grid, grid)
    if found is None:
        raise UserError("the axes of LR and HR are not parallel, so LR has no band on HR's axes")
    spectrum: npt.NDArray[np.inexact] = np.asarray(data, dtype=np.float32)
    inside: list[npt.NDArray[np.bool_]] = []
    outside: list[npt.NDArray[np.bool_]] = []
    periodic = [axis for axis in degraded if lr.acquisition[found[0][axis]].kind == "kspace"]
    even = [axis for axis in degraded if axis not in periodic]
    if even:
        spectrum = fft.dctn(spectrum, axes=even, norm="ortho")
    if periodic:
        spectrum = fft.fftn(spectrum, axes=periodic, norm="ortho")
    for axis in degraded:
        size, limit = grid.shape[axis], 0.5 * grid.spacing[axis] / lr.spacing[found[0][axis]]
        frequency = np.abs(fft.fftfreq(size)) if axis in periodic else np.arange(size) / (2 * size)
        shape = [-1 if other == axis else 1 for other in range(3)]
        inside.append((frequency < limit * (1 - _ON_THE_EDGE)).reshape(shape))
        outside.append((frequency > limit * (1 + _ON_THE_EDGE)).reshape(shape))
    power = spectrum.real.astype(np.float64) ** 2 + spectrum.imag.astype(np.float64) ** 2
    measured = np.logical_and.reduce(np.broadcast_arrays(*inside))
    beyond = np.logical_or.reduce(np.broadcast_arrays(*outside))
    return float((power * measured).sum()), float((power * beyond).sum())


def band_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """in_band_error and out_of_band_error: norm of the error's spectrum over norm of HR's, inside and outside."""
    reference, lr = comparison.reference, comparison.lr
    hr = reference.hr
    if lr is None or not reference.degraded_axes:
        why = "needs the LR volume" if lr is None else "LR has the sampling of HR along every axis"
        return [Score(key, None, reason=why) for key in keys]
    try:
        errors = band_energies(comparison.sr - hr.data, hr.grid, lr, reference.degraded_axes)
        powers = band_energies(hr.data, hr.grid, lr, reference.degraded_axes)
    except UserError as error:
        return [Score(key, None, reason=str(error)) for key in keys]
    scores = []
    for key in keys:
        place = 0 if key.startswith("in_") else 1
        if powers[place] > 0:
            scores.append(Score(key, math.sqrt(errors[place] / powers[place])))
        else:
            scores.append(Score(key, None, reason=f"HR has no energy {'inside' if place == 0 else 'outside'} the band"))
    return scores


_BAND = (
    "whole scored volume, no mask; Fourier along axes of truncated k-space, cosine transform along the other degraded "
    "axes; the frequencies exactly at LR's Nyquist left out"
)


def _band_spec(name: str, summary: str, where: str) -> MetricSpec:
    return MetricSpec(
        name=name,
        version=1,
        direction="lower",
        units="1",
        summary=summary,
        source="Parseval: norm of the spectrum of SR - HR over norm of that of HR, split at LR's Nyquist frequency",
        convention=f"{where}; {_BAND}",
        ranked=False,
        reference=True,
        compute=f"{__name__}:band_scores",
    )


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
    _band_spec("in_band_error", "error where LR was measured", "under LR's Nyquist frequency along all degraded axes"),
    _band_spec(
        "out_of_band_error",
        "error where nothing was measured: 1 adds nothing, less is true detail, more is invented",
        "above LR's Nyquist frequency along any degraded axis",
    ),
)
