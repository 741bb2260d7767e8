"""Where in frequency SR agrees with HR: Fourier shell correlation, and the resolution where it falls under one half.

FSC (Harauz & van Heel 1986, Optik 73:146): the correlation of the two spectra over the frequencies of one shell. Along
an axis only those within 20 degrees of it count, as in directional FSC (Tan et al. 2017, Nature Methods 14:793); axes
are named by the world axis (R, A, S) that they lie nearest to. Shells are equally wide in cycles per mm, whatever the
voxels' shape. No mask: its edge would be common to both spectra and would pass for agreement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import FloatArray, Grid

THRESHOLD = 0.5
CONE_DEGREES = 20.0
MIN_FREQUENCIES = 4
"""A shell with fewer inside the cone says nothing."""
AXES = "ras"
NYQUIST_MARK = "agrees up to the Nyquist frequency of HR"


@dataclass(frozen=True)
class Curve:
    """FSC over frequency: ``frequency`` in cycles per mm (means of the shells), ``correlation`` from -1 to 1."""

    frequency: tuple[float, ...]
    correlation: tuple[float, ...]
    nyquist: float

    def stored(self) -> dict[str, Any]:
        """As a run stores it: five significant digits, more than a drawn line shows."""
        return {
            "frequency": [float(f"{value:.5g}") for value in self.frequency],
            "correlation": [float(f"{value:.5g}") for value in self.correlation],
            "nyquist": self.nyquist,
        }

    @property
    def resolution(self) -> tuple[float, bool]:
        """Where the curve first falls under 0.5 (interpolated between shells), as a period in mm; whether it does.

        If it never does: the period of the Nyquist frequency and False.
        """
        before = (0.0, 1.0)
        for frequency, correlation in zip(self.frequency, self.correlation, strict=True):
            if correlation < THRESHOLD:
                share = (before[1] - THRESHOLD) / (before[1] - correlation)
                return 1 / (before[0] + share * (frequency - before[0])), True
            before = (frequency, correlation)
        return 1 / self.nyquist, False


def shell_correlations(sr: FloatArray, hr: FloatArray, grid: Grid) -> dict[str, Curve]:
    """The curves ``all`` (whole shells) and ``r``, ``a``, ``s`` (within 20 degrees of an axis) of two volumes.

    Shells are one step of the coarsest frequency axis wide and end at the Nyquist frequency: that of the axis, or the
    lowest of the three for whole shells.
    """
    import numpy as np
    from scipy import fft

    nyquist = [0.5 / spacing for spacing in grid.spacing]
    width = max(1 / (size * spacing) for size, spacing in zip(grid.shape, grid.spacing, strict=True))
    x, y = (fft.rfftn(data - data.mean(dtype=np.float64)) for data in (sr, hr))
    frequencies = [
        fft.fftfreq(grid.shape[0], grid.spacing[0])[:, None, None],
        fft.fftfreq(grid.shape[1], grid.spacing[1])[None, :, None],
        fft.rfftfreq(grid.shape[2], grid.spacing[2])[None, None, :],
    ]
    radius = np.sqrt(sum((f**2 for f in frequencies), np.zeros(())))
    shell = np.rint(radius / width).astype(np.int32)
    twice = np.full(x.shape[2], 2.0)  # frequencies whose mirror image rfftn leaves out
    twice[0] = 1
    if grid.shape[2] % 2 == 0:
        twice[-1] = 1
    weights = np.broadcast_to(twice, x.shape)
    cross = (x * y.conj()).real
    power_x, power_y = x.real**2 + x.imag**2, y.real**2 + y.imag**2
    curves = {"all": _curve(shell, weights, radius, cross, power_x, power_y, width, min(nyquist), None)}
    for name, axis in zip(AXES, grid.world_to_array(), strict=True):
        inside = np.abs(frequencies[axis]) >= math.cos(math.radians(CONE_DEGREES)) * radius
        curves[name] = _curve(shell, weights, radius, cross, power_x, power_y, width, nyquist[axis], inside)
    return curves


def _curve(
    shell: npt.NDArray[np.int32],
    weights: npt.NDArray[np.float64],
    radius: npt.NDArray[np.float64],
    cross: npt.NDArray[np.float64],
    power_x: npt.NDArray[np.float64],
    power_y: npt.NDArray[np.float64],
    width: float,
    nyquist: float,
    inside: npt.NDArray[np.bool_] | None,
) -> Curve:
    import numpy as np

    last = int(nyquist / width + 1e-6)
    chosen = (shell > 0) & (shell <= last) & (radius <= nyquist * (1 + 1e-6))
    if inside is not None:
        chosen &= inside
    places, w = shell[chosen], weights[chosen]

    def summed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(places, weights=w * values[chosen], minlength=last + 1).astype(np.float64)

    count = np.bincount(places, weights=w, minlength=last + 1)
    power = np.sqrt(summed(power_x) * summed(power_y))
    usable = (count >= MIN_FREQUENCIES) & (power > 0)
    correlation = summed(cross)[usable] / power[usable]
    frequency = summed(radius)[usable] / count[usable]
    return Curve(tuple(frequency.tolist()), tuple(correlation.tolist()), nyquist)


def resolution_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """resolution, and resolution_r, _a, _s: the period in mm at which SR and HR stop agreeing."""
    reference = comparison.reference
    hr = reference.hr.data
    if min(hr.shape) < 8:
        return [Score(key, None, reason=f"a volume of shape {hr.shape} has too few shells") for key in keys]
    if not comparison.sr.any() or comparison.sr.min() == comparison.sr.max():
        return [Score(key, None, reason="SR is constant") for key in keys]
    curves = shell_correlations(comparison.sr, hr, reference.hr.grid)
    scores = []
    for key in keys:
        curve = curves[key.removeprefix("resolution").lstrip("_") or "all"]
        if not curve.correlation:
            scores.append(Score(key, None, reason="too few frequencies lie in the shells"))
            continue
        period, crossed = curve.resolution
        scores.append(Score(key, period, mark=None if crossed else NYQUIST_MARK, curve=curve.stored()))
    return scores


_SOURCE = "Harauz & van Heel 1986, Optik 73:146; cones: Tan et al. 2017, Nature Methods 14:793"


def _spec(suffix: str, where: str, convention: str) -> MetricSpec:
    return MetricSpec(
        name=f"resolution{suffix}",
        version=1,
        direction="lower",
        units="mm",
        summary=f"period at which the Fourier shell correlation with HR falls under 0.5, {where}",
        source=_SOURCE,
        convention=f"whole volume without its mean, no mask; {convention}; first crossing of 0.5, interpolated",
        ranked=False,
        reference=True,
        compute=f"{__name__}:resolution_scores",
    )


METRICS: tuple[MetricSpec, ...] = (
    _spec("", "whole shells", "whole shells up to the lowest Nyquist frequency"),
    *(
        _spec(
            f"_{axis}", f"along {axis.upper()}", f"frequencies within 20 degrees of the axis nearest to {axis.upper()}"
        )
        for axis in AXES
    ),
)
