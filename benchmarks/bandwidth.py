"""How much of the matrix was measured: the effective bandwidth of a volume along each axis.

Scanners interpolate: k-space is padded with zeros and the image gets more voxels, none of them measured. Along such an
axis the power spectrum, which in anatomy falls as a power of the frequency, drops at the edge of what was measured
and stays low. The edge is looked for as a step of the log spectrum beyond its own power law that is sharp: the spectrum
of an image that was smoothed falls on both sides of it nearly as fast as across it, a roll-off and no padding.

Seen on scans whose acquisition is known: 7 to 13 dB where a quarter or more of the axis is padding, 4 to 5 dB on noisy
8-bit images padded from 80 %, below 4.5 dB on fully measured ones; apodisation near the end of the axis (from 0.86 on)
gives 2 to 10 dB and is no padding, so `MAX_EDGE` is below it. Beside an edge of padding the spectrum falls at up to
0.57 of the rate across it; beside the strongest step of images smoothed by 0.8 to 1.6 voxels (Gaussian), at 0.74 and
more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_SAMPLES = 48
"""Along an axis: fewer leave too few frequencies to tell a step from a slope."""
MIN_STEP_DB = 5.0
POOLED_STEP_DB = 4.5
"""Suffices for the median over several images whose edges agree."""
MAX_PLANES = 40
"""Of a volume that are looked at, evenly spread: neighbours tell the same."""
MIN_EDGE, MAX_EDGE = 0.2, 0.85
"""Of Nyquist: where an edge is looked for."""
_NEAR, _FAR = 0.03, 0.10
"""Of Nyquist: the step is taken between bands at these distances below and above the edge."""
_SHARP = 0.65
"""Beside a sharp edge the spectrum falls at most this share as fast as across it..."""
_BELOW, _ABOVE = 0.2, 0.3
"""... over this much of Nyquist below and above."""
_REBOUND_DB = 3.0
"""By which the spectrum may rise again above an edge and still be padding; more is a notch."""

Spectrum = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bandwidth:
    """Of one axis: ``fraction`` of Nyquist that was measured (1 if no edge shows), the ``step`` at its edge in dB.

    ``fraction`` is None where the axis is too short to tell; ``edge`` is where the step is, padding or not, and
    ``sharp`` whether it is an edge or the middle of a slope.
    """

    fraction: float | None
    step: float
    edge: float
    sharp: bool = True

    @property
    def rolls_off(self) -> bool:
        """Whether the spectrum falls faster than its power law and without an edge: the image was smoothed."""
        return self.step >= MIN_STEP_DB and not self.sharp

    @property
    def padded(self) -> bool:
        """Whether the axis has more samples than were measured."""
        return self.fraction is not None and self.fraction < 1


def power_spectrum(data: npt.NDArray[np.float32], axis: int) -> Spectrum:
    """Mean power over all lines along ``axis``, from frequency 0 to Nyquist; means removed, Hann window."""
    lines = np.moveaxis(data, axis, -1)
    size = lines.shape[-1]
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    lines = lines[:: max(1, len(lines) // MAX_PLANES)]
    total = np.zeros(size // 2 + 1)
    for plane in lines:
        centred = (plane - plane.mean(-1, keepdims=True)) * window
        total += (np.abs(np.fft.rfft(centred, axis=-1)) ** 2).sum(axis=tuple(range(plane.ndim - 1)), dtype=np.float64)
    return np.asarray(total / (lines.size / size), dtype=np.float64)


def edge_of(spectrum: Spectrum) -> tuple[float, float, bool]:
    """The strongest step of a power spectrum: place (of Nyquist), height in dB beyond the power law, if it is sharp."""
    frequency = np.arange(len(spectrum)) / (len(spectrum) - 1)
    level = 10 * np.log10(spectrum + max(float(spectrum.max()), 1e-30) * 1e-12)
    best = (1.0, 0.0, True)
    for edge in np.arange(MIN_EDGE, 1 - _FAR / 2, min(0.005, frequency[1])):
        below = level[(frequency >= edge - _FAR) & (frequency <= edge - _NEAR)]
        above = level[(frequency >= edge + _NEAR) & (frequency <= edge + _FAR)]
        law = (frequency >= 0.3 * edge) & (frequency <= edge - _NEAR)
        if min(len(below), len(above)) < 2 or law.sum() < 4:
            continue
        slope = np.clip(-np.polyfit(np.log10(frequency[law]), level[law], 1)[0], 0, 40)
        middle = (_NEAR + _FAR) / 2
        natural = slope * np.log10((edge + middle) / (edge - middle))
        step = float(np.median(below) - np.median(above) - natural)
        rebound = float(level[frequency >= edge + _FAR].max(initial=-np.inf) - np.median(above))
        if step > best[1] and rebound < _REBOUND_DB:
            place = _crossing(frequency, level, float(edge), float(np.median(below) + np.median(above)) / 2)
            across = float(np.median(below) - np.median(above)) / (_NEAR + _FAR)
            low, high = (edge - _NEAR - _BELOW, edge - _NEAR), (edge + _NEAR, edge + _NEAR + _ABOVE)
            beside = max(_fall(frequency, level, *low), _fall(frequency, level, *high))
            best = (place, step, beside <= _SHARP * across)
    return best


def _fall(frequency: Spectrum, level: Spectrum, low: float, high: float) -> float:
    """How fast the spectrum falls between two frequencies, in dB over all of Nyquist."""
    part = (frequency >= low) & (frequency <= high)
    return -float(np.polyfit(frequency[part], level[part], 1)[0])


def _crossing(frequency: Spectrum, level: Spectrum, edge: float, middle: float) -> float:
    """Where, around ``edge``, the spectrum first falls through ``middle`` (dB)."""
    near = np.flatnonzero((frequency > edge - _FAR) & (frequency <= edge + _FAR) & (level < middle))
    if not len(near) or near[0] == 0:
        return edge
    after = int(near[0])
    drop = level[after - 1] - level[after]
    part = float((level[after - 1] - middle) / drop) if drop > 0 else 0.5
    return float(frequency[after - 1] + np.clip(part, 0, 1) * (frequency[after] - frequency[after - 1]))


def bandwidth(data: npt.NDArray[np.float32]) -> tuple[Bandwidth, Bandwidth, Bandwidth]:
    """The effective bandwidth of a volume along each of its array axes."""
    found = []
    for axis in range(3):
        if data.shape[axis] < MIN_SAMPLES or not np.ptp(data):
            found.append(Bandwidth(None, 0.0, 1.0))
            continue
        edge, step, sharp = edge_of(power_spectrum(data, axis))
        padded = step >= MIN_STEP_DB and edge <= MAX_EDGE and sharp
        found.append(Bandwidth(edge if padded else 1.0, step, edge, sharp))
    return (found[0], found[1], found[2])
