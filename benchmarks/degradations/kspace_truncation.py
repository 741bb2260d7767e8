"""Truncated k-space: fewer phase-encoding lines, as a faster scan would measure them.

Along an axis of N samples with factor f, M = round(N / f) samples of k-space stay. Without phase, noise or
apodisation LR is `scipy.signal.resample(hr, M, axis)`, so constants survive, sample 0 stays where it was and
the spacing becomes N / M times. With phase or noise everything is complex and the magnitude is taken last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradation import Degradation, Geometry, Params, checked_factor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.volume import Grid, Volume

WINDOWS = (None, "tukey", "hamming")


class KspaceTruncation(Degradation):
    """Keep the centre of k-space; optional apodisation, smooth phase and complex noise.

    Parameters: ``factor``; ``window`` (None, "tukey" or "hamming", over the kept band) and ``window_alpha`` (tapered share
    of a Tukey window); ``phase`` (peak of a smooth synthetic phase, rad); ``snr`` (mean of the HR voxels above the HR
    mean, over the noise's standard deviation per complex channel on the HR grid; None: no noise); drawn: ``seed``.
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
        if params["snr"] is not None and not float(params["snr"]) > 0:
            raise UserError(f"{self.name}: snr must be above 0, or null for no noise; got {params['snr']!r}")
        if params["seed"] is None and (params["phase"] or params["snr"] is not None):
            params["seed"] = int(rng.integers(2**31))
        return params

    def geometry(self, grid: Grid, params: Mapping[str, Any]) -> Geometry:
        from mrsr_bench.volume import AxisAcquisition

        factor = grid.factor_by_axis(checked_factor(params["factor"], self.name))
        kept = [round(n / f) for n, f in zip(grid.shape, factor, strict=True)]
        if min(k for k, n in zip(kept, grid.shape, strict=True)) < 1:
            raise UserError(f"{self.name}: a volume of shape {grid.shape} is too small for the factor {factor}")
        step = [n / m for n, m in zip(grid.shape, kept, strict=True)]
        lr = grid.resized(kept, step, (0, 0, 0))
        acquisition = [
            AxisAcquisition("kspace", width=spacing) if m < n else AxisAcquisition()
            for spacing, m, n in zip(lr.spacing, kept, grid.shape, strict=True)
        ]
        return Geometry((0, 0, 0), grid.shape, lr, (acquisition[0], acquisition[1], acquisition[2]))

    def apply(self, volume: Volume, params: Mapping[str, Any]) -> Volume:
        import numpy as np
        from scipy.signal import resample

        place = self.geometry(volume.grid, params)
        image: npt.NDArray[Any] = volume.data.astype(np.float64)
        is_complex = bool(params["phase"]) or params["snr"] is not None
        if is_complex:
            image = _with_phase_and_noise(image, params)
        for axis, (kept, size) in enumerate(zip(place.lr.shape, volume.data.shape, strict=True)):
            if kept < size:
                image = resample(image, kept, axis=axis)
                if params["window"] is not None:
                    image = _apodised(image, axis, params)
        if is_complex:
            image = np.abs(image)
        return volume.with_data(image, place.lr, acquisition=place.acquisition)


def _with_phase_and_noise(image: npt.NDArray[np.float64], params: Mapping[str, Any]) -> npt.NDArray[np.complex128]:
    import numpy as np

    rng = np.random.default_rng(params["seed"])
    phase = np.zeros(image.shape)
    if params["phase"]:
        phase = float(params["phase"]) * _smooth_field(rng, image.shape)
    turned = image * np.exp(1j * phase)
    if params["snr"] is not None:
        sigma = image[image > image.mean()].mean() / float(params["snr"]) if image.any() else 0.0
        turned = turned + sigma * (rng.standard_normal(image.shape) + 1j * rng.standard_normal(image.shape))
    return turned


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
    return field / peak if peak > 0 else field


def _apodised(image: npt.NDArray[Any], axis: int, params: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Multiply the kept band along ``axis`` by a window that is 1 at the centre of k-space."""
    import numpy as np

    count = image.shape[axis]
    position = np.abs(np.fft.fftfreq(count)) / 0.5
    if params["window"] == "hamming":
        window = 0.54 + 0.46 * np.cos(np.pi * position)
    else:
        alpha = float(params["window_alpha"])
        ramp = (position - (1 - alpha)) / alpha if alpha > 0 else np.zeros(count)
        window = np.where(ramp > 0, 0.5 * (1 + np.cos(np.pi * ramp)), 1.0)
    shape = [1] * image.ndim
    shape[axis] = count
    filtered = np.fft.ifft(np.fft.fft(image, axis=axis) * window.reshape(shape), axis=axis)
    return filtered if np.iscomplexobj(image) else filtered.real


DEGRADATIONS = (KspaceTruncation(),)
