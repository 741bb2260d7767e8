"""Truncated k-space: fewer phase-encoding lines, as a faster scan would measure them.

Along an axis of N samples with factor f, M = round(N / f) samples of k-space stay. Without phase, noise or
apodisation LR is `scipy.signal.resample(hr, M, axis)`, so constants survive, sample 0 stays where it was and
the spacing becomes N / M times. With phase or noise everything is complex and the magnitude is taken last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params, checked_factor, checked_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import Grid, Volume

WINDOWS = (None, "tukey", "hamming")
MIN_SNR = 1e-3


class KspaceTruncation(Degradation):
    """Keep the centre of k-space; optional apodisation, smooth phase and complex noise.

    Parameters: ``factor``; ``window`` (None, "tukey" or "hamming", over the kept band) and ``window_alpha`` (tapered
    share of a Tukey window); ``phase`` (peak of a smooth synthetic phase, rad); ``snr`` (mean of the HR voxels above
    the HR mean, over the noise's standard deviation per complex channel on the HR grid; None: no noise); ``seed``.
    """

    name = "kspace_truncation"
    summary = "centre of k-space kept; optional Tukey or Hamming window, smooth phase, complex noise"
    defaults: Mapping[str, Any] = {
        "factor": [2, 2, 1],
        "window": None,
        "window_alpha": 0.5,
        "phase": 0.0,
        "snr": None,
        "seed": None,
    }

    def sample(self, rng: np.random.Generator, volume: Volume, settings: Mapping[str, Any] | None = None) -> Params:
        params = super().sample(rng, volume, settings)
        checked_factor(params["factor"], self.name)
        if params["window"] not in WINDOWS:
            raise UserError(f"{self.name}: window is null, tukey or hamming; got {params['window']!r}")
        checked_number(params, "window_alpha", self.name, 0, 1)
        checked_number(params, "phase", self.name, 0, 100)
        if params["snr"] is not None:
            checked_number(params, "snr", self.name, MIN_SNR, math.inf)
        if params["seed"] is not None and (not isinstance(params["seed"], int) or params["seed"] < 0):
            raise UserError(f"{self.name}: seed is a whole number of at least 0, or null; got {params['seed']!r}")
        if params["seed"] is None and _is_complex(params):
            params["seed"] = int(rng.integers(2**31))
        return params

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        from mrsr_bench.volume import AxisAcquisition

        factor = grid.factor_by_axis(checked_factor(params["factor"], self.name))
        kept = [round(n / f) for n, f in zip(grid.shape, factor, strict=True)]
        if min(kept) < 1:
            asked = "x".join(f"{f:g}" for f in factor)
            raise UserError(f"{self.name}: a volume of shape {grid.shape} is too small for the factor {asked}")
        step = [n / m for n, m in zip(grid.shape, kept, strict=True)]
        lr = grid.resized(kept, step, (0, 0, 0))
        acquisition = [
            AxisAcquisition("kspace", width=spacing) if m < n else AxisAcquisition()
            for spacing, m, n in zip(lr.spacing, kept, grid.shape, strict=True)
        ]
        return Geometry((0, 0, 0), grid.shape, lr, (acquisition[0], acquisition[1], acquisition[2]))

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        import numpy as np

        from mrsr_bench.zoo.regrid import multiply_axes

        place = self.geometry(volume.grid, params)
        matrices = [
            truncation_matrix(size, kept, params["window"], float(params["window_alpha"])) if kept < size else None
            for kept, size in zip(place.lr.shape, volume.data.shape, strict=True)
        ]
        if _is_complex(params):
            channels = _with_phase_and_noise(volume.data, params)
            real, imaginary = (multiply_axes(channel, matrices, np.float64) for channel in channels)
            data = np.hypot(real, imaginary)
        else:
            data = multiply_axes(volume.data, matrices, np.float64)
        return volume.with_data(data, place.lr, acquisition=place.acquisition)


def _is_complex(params: Mapping[str, Any]) -> bool:
    return bool(params["phase"]) or params["snr"] is not None


@lru_cache(maxsize=64)
def truncation_matrix(size: int, kept: int, window: str | None, alpha: float) -> npt.NDArray[np.float64]:
    """What `scipy.signal.resample` to ``kept`` samples, then a window, does to each of ``size`` unit vectors.

    Both are linear in the samples, so a product with this matrix (kept x size) is that resampling, several times
    faster than its Fourier transforms along a strided axis. Cached: do not write to it.
    """
    import numpy as np
    from scipy.signal import resample

    matrix = np.asarray(resample(np.eye(size), kept, axis=0))
    if window is not None:
        shape = _window(kept, window, alpha)[:, None]
        matrix = np.fft.ifft(np.fft.fft(matrix, axis=0) * shape, axis=0).real
    matrix.flags.writeable = False
    return matrix


def _window(count: int, window: str, alpha: float) -> npt.NDArray[np.float64]:
    """The window over a band of ``count`` bins in the order of `numpy.fft.fftfreq`, 1 at the centre of k-space."""
    import numpy as np

    position = np.abs(np.fft.fftfreq(count)) / 0.5
    if window == "hamming":
        return np.asarray(0.54 + 0.46 * np.cos(np.pi * position))
    ramp = (position - (1 - alpha)) / alpha if alpha > 0 else np.zeros(count)
    return np.where(ramp > 0, 0.5 * (1 + np.cos(np.pi * ramp)), 1.0)


def _with_phase_and_noise(
    image: npt.NDArray[np.float32], params: Mapping[str, Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The real and the imaginary channel of ``image`` under the phase and the noise of ``params``."""
    import numpy as np

    rng = np.random.default_rng(params["seed"])
    real = image.astype(np.float64)
    imaginary = np.zeros_like(real)
    if params["phase"]:
        phase = float(params["phase"]) * _smooth_field(rng, image.shape)
        imaginary = real * np.sin(phase)
        real *= np.cos(phase)
    if params["snr"] is not None:
        above = image[image > image.mean(dtype=np.float64)]
        signal = float(above.mean(dtype=np.float64)) if above.size else float(image.flat[0])
        sigma = abs(signal) / float(params["snr"])
        real += sigma * rng.standard_normal(image.shape)
        imaginary += sigma * rng.standard_normal(image.shape)
    return real, imaginary


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Random polynomial of degree 3 over the field of view, peak 1: the phase of coils and field inhomogeneity."""
    import numpy as np

    axes = [np.linspace(-1, 1, n) for n in shape]
    powers = [np.stack([a**p for p in range(4)]) for a in axes]
    weights = rng.standard_normal((4, 4, 4))
    degree = np.add.outer(np.add.outer(np.arange(4), np.arange(4)), np.arange(4))
    weights[(degree == 0) | (degree > 3)] = 0
    field = np.einsum("ijk,ix,jy,kz->xyz", weights, *powers, optimize=True)
    peak = np.abs(field).max()
    return np.asarray(field / peak if peak > 0 else field)


DEGRADATIONS = (KspaceTruncation(),)
