"""How PSNR, SSIM and NRMSE are computed in the literature, by name, so that one prediction can be scored under all.

`mrsr-bench score SR HR --convention all` prints the spread. Each convention is a function of two arrays; where a
published code does it so, its name is the convention's. They differ in what is done to the intensities first, in the
region, in the range that the error is compared with, and in SSIM's window, and in nothing else: none is wrong by
itself, and no two may be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mrsr_bench import UserError
from mrsr_bench.registry import unknown_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import RenderableType

    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import Volume

    Array = npt.NDArray[np.float64]
    Slices = list[tuple[Array, Array]]

Metric = Literal["psnr", "ssim", "nrmse", "rmse", "niqe", "pi"]
FIXED_PEAK = 4095.0
SUPERFORMER_BORDER, SHAVED = 24, 4
"""Voxels on every side (3D), pixels on every side (2D)."""


class Images:
    """SR and HR (float64, one shape), and what conventions derive from them; every part is computed once."""

    def __init__(self, sr: Volume, hr: Volume) -> None:
        import numpy as np

        self.sr, self.hr, self._hr_volume = sr.data.astype(np.float64), hr.data.astype(np.float64), hr
        self._sr_volume = sr

    @cached_property
    def reference(self) -> Reference:
        """HR's mask and range as the common protocol defines them."""
        from mrsr_bench.benchmarks.metrics.region import reference_of

        return reference_of(self._hr_volume)

    @cached_property
    def protocol_scores(self) -> dict[str, float | None]:
        """psnr, ssim and nrmse as the tables of this package state them, here over the whole mask."""
        from mrsr_bench.benchmarks.metrics import score

        keys = ["psnr", "ssim", "nrmse"]
        return {s.metric: s.value for s in score(self._sr_volume.data, self.reference, keys)}

    @cached_property
    def slices(self) -> Slices:
        """(SR, HR) of every slice of the largest plane in which HR is not constant."""
        import numpy as np

        from mrsr_bench.benchmarks.metrics.region import slice_axis

        axis = slice_axis(self.hr.shape, (), whole_plane=False)
        pairs = zip(np.moveaxis(self.sr, axis, 0), np.moveaxis(self.hr, axis, 0), strict=True)
        return [(sr, hr) for sr, hr in pairs if hr.min() < hr.max()]

    @cached_property
    def slice_moments(self) -> Moments | None:
        """Local moments within the slices (slices, height, width)."""
        import numpy as np

        return uniform_moments(*(np.stack([pair[i] for pair in self.slices]) for i in (0, 1)), slicewise=True)

    @cached_property
    def volume_moments(self) -> Moments | None:
        """Local moments of the volumes."""
        return uniform_moments(self.sr, self.hr, slicewise=False)

    def peaks(self, which: Literal["sr", "hr"]) -> Array:
        """The maximum of SR or HR in every slice."""
        import numpy as np

        return np.array([pair[0 if which == "sr" else 1].max() for pair in self.slices])

    @cached_property
    def eight_bit(self) -> Slices:
        """The slices as images of 8 bits: x 255 / maximum of HR, clipped, rounded."""
        import numpy as np

        scale = 255 / self.hr.max()
        return [(np.rint(np.clip(sr * scale, 0, 255)), np.rint(np.clip(hr * scale, 0, 255))) for sr, hr in self.slices]

    @cached_property
    def luminance(self) -> Slices:
        """Y (ITU-R BT.601, 16 to 235, rounded) of the slices as grey RGB images of 8 bits, 4 pixels cut off."""
        import numpy as np

        return [(np.rint(16 + sr * 219 / 255), np.rint(16 + hr * 219 / 255)) for sr, hr in _shaved(self.eight_bit)]

    @cached_property
    def niqe(self) -> float:
        """NIQE of `luminance` of SR, mean over slices; raises `Unavailable` where it cannot be had."""
        return self._judged("niqe")

    @cached_property
    def ma(self) -> float:
        """Ma's score of `luminance` of SR, mean over slices; raises `Unavailable` where it cannot be had."""
        return self._judged("ma")

    def _judged(self, key: str) -> float:
        from mrsr_bench.benchmarks.metrics.no_reference import Unavailable, measured_slices

        values = measured_slices(key, [sr for sr, _ in self.luminance if sr.size])
        mean = _mean(value for value in values if isinstance(value, float))
        if mean is None:
            raise Unavailable(str(values[0]))
        return mean


@dataclass(frozen=True)
class Convention:
    """A way to compute ``metric``: ``code`` is whose it is (None: a generic one), ``summary`` all that defines it."""

    name: str
    metric: Metric
    code: str | None
    summary: str
    compute: Callable[[Images], float | None]


# --------------------------------------------------------------------------------------------- PSNR and NRMSE


def psnr(sr: Array, hr: Array, peak: float) -> float | None:
    """10 log10(peak^2 / mean squared error), dB; None for equal images."""
    error = float(((sr - hr) ** 2).mean())
    return 10 * math.log10(peak**2 / error) if error > 0 and peak > 0 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _pirm_rmse(slices: Slices) -> float | None:
    mean = _mean(float(((sr - hr) ** 2).mean()) for sr, hr in slices if hr.size)
    return None if mean is None else math.sqrt(mean)


def _unit(data: Array) -> Array:
    """``data`` scaled by its own minimum and maximum to 0 to 1; a constant one to 0."""
    low, high = data.min(), data.max()
    return (data - low) / (high - low) if high > low else data * 0


def _clipped(images: Images) -> tuple[Array, Array]:
    import numpy as np

    top = float(np.percentile(images.hr[images.hr > images.hr.mean()], 99.9))
    return np.clip(images.sr / top, 0, 1), np.clip(images.hr / top, 0, 1)


def _cut(data: Array, border: int) -> Array:
    return data[tuple(slice(border, n - border) for n in data.shape)]


def _inner(images: Images) -> tuple[Array, Array] | None:
    """SR and HR without SuperFormer's border; None where nothing is left for a window."""
    if min(images.hr.shape) < 2 * SUPERFORMER_BORDER + 7:
        return None
    return _cut(images.sr, SUPERFORMER_BORDER), _cut(images.hr, SUPERFORMER_BORDER)


def _shaved(slices: Slices) -> Slices:
    return [(_cut(sr, SHAVED), _cut(hr, SHAVED)) for sr, hr in slices if min(hr.shape) > 2 * SHAVED]


def _range(data: Array) -> float:
    return float(data.max() - data.min())


def _superformer_psnr(images: Images) -> float | None:
    inner = _inner(images)
    return None if inner is None else psnr(inner[0].clip(0, FIXED_PEAK), inner[1].clip(0, FIXED_PEAK), FIXED_PEAK)


def _border_max_psnr(images: Images) -> float | None:
    inner = _inner(images)
    return None if inner is None else psnr(*inner, float(images.hr.max()))


def _masked_psnr(images: Images) -> float | None:
    mask = images.reference.mask
    return psnr(images.sr[mask], images.hr[mask], float(images.hr.max()))


def _root(images: Images) -> float:
    return math.sqrt(float(((images.sr - images.hr) ** 2).mean()))


def _power(images: Images) -> float:
    return math.sqrt(float((images.hr**2).mean()))


# ------------------------------------------------------------------------------------------------------- SSIM


WINDOW, K1, K2 = 7, 0.01, 0.03
"""Voxels of scikit-image's default window, and SSIM's constants."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Local means, variances and covariance (samples') under a uniform window, where it lies inside the image.

    They do not depend on the range, so every convention with this window shares them.
    """

    mean: tuple[Array, Array]
    variance: tuple[Array, Array]
    covariance: Array

    def ssim(self, peak: float | Array, border: int = 0) -> Array:
        """The SSIM map for the range ``peak``, ``border`` voxels cut off on every side of each axis."""
        inner = tuple(slice(border, n - border) for n in self.covariance.shape)
        x, y, vx, vy, vxy = (part[inner] for part in (*self.mean, *self.variance, self.covariance))
        c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
        return ((2 * x * y + c1) * (2 * vxy + c2)) / ((x * x + y * y + c1) * (vx + vy + c2))


def uniform_moments(sr: Array, hr: Array, *, slicewise: bool) -> Moments | None:
    """`Moments` under windows of 7x7x7, or of 7x7 within slices along the first axis; None if the image is smaller."""
    from scipy.ndimage import uniform_filter

    size = (1, WINDOW, WINDOW) if slicewise else (WINDOW,) * 3
    if any(n < s for n, s in zip(hr.shape, size, strict=True)):
        return None
    inside = tuple(slice(s // 2, n - s // 2) for n, s in zip(hr.shape, size, strict=True))
    x, y, xx, yy, xy = (uniform_filter(part, size)[inside] for part in (sr, hr, sr * sr, hr * hr, sr * hr))
    samples = math.prod(size) / (math.prod(size) - 1)
    return Moments((x, y), (samples * (xx - x * x), samples * (yy - y * y)), samples * (xy - x * y))


def _slice_ssim(images: Images, peaks: Array) -> float | None:
    moments = images.slice_moments
    return None if moments is None else float(moments.ssim(peaks[:, None, None]).mean())


def _volume_ssim(images: Images, peak: float, border: int = 0) -> float | None:
    moments = images.volume_moments
    if moments is None or min(moments.covariance.shape) <= 2 * border:
        return None
    return float(moments.ssim(peak, border).mean())


def _gaussian_ssim(images: Images) -> float | None:
    """Wang et al. 2004 in 3D: Gaussian window (sigma 1.5, 11 wide), population covariance, borders of 5 left out."""
    import numpy as np

    from mrsr_bench.benchmarks.metrics.reference import RADIUS, ssim_volume_mean

    if min(images.hr.shape) <= 2 * RADIUS:
        return None
    x, y, z = (slice(RADIUS, n - RADIUS) for n in images.hr.shape)
    sr, hr = (data.astype(np.float32) for data in (images.sr, images.hr))
    return ssim_volume_mean(sr, hr, float(images.hr.max()), (x, y, z))


def _eight_bit_ssim(images: Images) -> float | None:
    import numpy as np

    from mrsr_bench.benchmarks.metrics.reference import RADIUS, ssim_slice_means

    sr, hr = (np.stack([pair[i] for pair in _shaved(images.eight_bit)]).astype(np.float32) for i in (0, 1))
    if min(hr.shape[1:]) <= 2 * RADIUS:
        return None
    return _mean(ssim_slice_means(sr, hr, 255.0, range(len(hr))))


def _own_slice_ssim(images: Images) -> float | None:
    import numpy as np

    sr, hr = (2 * np.stack([_unit(pair[i]) for pair in images.slices]) - 1 for i in (0, 1))
    moments = uniform_moments(sr, hr, slicewise=True)
    return None if moments is None else float(moments.ssim(2.0).mean())


CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "psnr/protocol", "psnr", "mrsr-bench", "volume, HR's mask, range q = 99.9th percentile above HR's mean",
        lambda i: i.protocol_scores["psnr"],
    ),
    Convention("psnr/fixed-4095", "psnr", None, "whole volume / 4095, peak 1", lambda i: psnr(i.sr, i.hr, FIXED_PEAK)),
    Convention("psnr/hr-max", "psnr", "MINet; MC-VarNet", "whole volume, range = maximum of HR",
               lambda i: psnr(i.sr, i.hr, float(i.hr.max()))),
    Convention("psnr/hr-max-min", "psnr", "ArSSR", "whole volume, range = maximum - minimum of HR",
               lambda i: psnr(i.sr, i.hr, _range(i.hr))),
    Convention("psnr/prediction-max", "psnr", "McMRSR", "per slice, range = maximum of the prediction, mean over "
               "slices",
               lambda i: _mean(psnr(sr, hr, float(sr.max())) for sr, hr in i.slices)),
    Convention("psnr/slice-max", "psnr", None, "per slice, range = maximum of the slice of HR, mean over slices",
               lambda i: _mean(psnr(sr, hr, float(hr.max())) for sr, hr in i.slices)),
    Convention("psnr/8-bit", "psnr", "MC-VarNet", "per slice of 8 bits (x 255 / maximum of HR, clipped, rounded), "
               "range 255, mean over slices", lambda i: _mean(psnr(sr, hr, 255) for sr, hr in i.eight_bit)),
    Convention("psnr/8-bit-shaved", "psnr", "DiffMSR", "as psnr/8-bit, 4 pixels cut off on every side of a slice",
               lambda i: _mean(psnr(sr, hr, 255) for sr, hr in _shaved(i.eight_bit))),
    Convention("psnr/superformer", "psnr", "SuperFormer", "volume / 4095 clipped to 0 to 1, peak 1, 24 voxels cut off "
               "on every side",
               _superformer_psnr),
    Convention("psnr/border-max", "psnr", None, "24 voxels cut off on every side, range = maximum of HR",
               _border_max_psnr),
    Convention("psnr/masked-max", "psnr", None, "HR's mask, range = maximum of HR", _masked_psnr),
    Convention("psnr/percentile-clipped", "psnr", None, "both / 99.9th percentile above HR's mean, clipped to 0 to 1, "
               "whole volume, peak 1", lambda i: psnr(*_clipped(i), 1.0)),
    Convention("psnr/own-min-max", "psnr", None, "SR and HR each scaled to 0 to 1 by its own minimum and "
               "maximum, peak 1",
               lambda i: psnr(_unit(i.sr), _unit(i.hr), 1.0)),
    Convention("psnr/slice-min-max", "psnr", "DRIFT", "per slice, SR and HR each scaled to -1 to 1 by its own minimum "
               "and maximum, range 2, mean over slices",
               lambda i: _mean(psnr(_unit(sr), _unit(hr), 1.0) for sr, hr in i.slices)),
    Convention("psnr/mdcsrn-port", "psnr", "a port of mDCSRN", "whole volume / 4095, range 2 (what scikit-image took "
               "for floats)", lambda i: psnr(i.sr, i.hr, 2 * FIXED_PEAK)),
    Convention("ssim/protocol", "ssim", "mrsr-bench", "3D, Gaussian window, mean over HR's mask, range q",
               lambda i: i.protocol_scores["ssim"]),
    Convention("ssim/fastmri", "ssim", "MINet (evaluation)", "2D, uniform window of 7, range = maximum of the volume, "
               "mean over slices", lambda i: _slice_ssim(i, 0 * i.peaks("hr") + i.hr.max())),
    Convention("ssim/slice-max", "ssim", "fastMRI (training loss)", "2D, uniform window of 7, range = maximum of "
               "the slice of HR, mean over slices", lambda i: _slice_ssim(i, i.peaks("hr"))),
    Convention("ssim/prediction-max", "ssim", "McMRSR", "2D, uniform window of 7, range = maximum of the prediction, "
               "mean over slices", lambda i: _slice_ssim(i, i.peaks("sr"))),
    Convention("ssim/hr-max-min", "ssim", "ArSSR", "3D, uniform window of 7, range = maximum - minimum of HR",
               lambda i: _volume_ssim(i, _range(i.hr))),
    Convention("ssim/gaussian-max", "ssim", None, "3D, Gaussian window, whole volume, range = maximum of HR",
               _gaussian_ssim),
    Convention("ssim/superformer", "ssim", "SuperFormer", "3D, uniform window of 7 (the Gaussian was asked for by a "
               "misspelt argument), range 4095, 24 voxels cut off on every side",
               lambda i: _volume_ssim(i, FIXED_PEAK, SUPERFORMER_BORDER)),
    Convention("ssim/8-bit-shaved", "ssim", "DiffMSR", "2D of 8 bits, Gaussian window, range 255, 4 pixels cut off, "
               "mean over slices", _eight_bit_ssim),
    Convention("ssim/slice-min-max", "ssim", "DRIFT", "2D, uniform window of 7, each slice scaled to -1 to 1 by its "
               "own minimum and maximum, range 2",
               _own_slice_ssim),
    Convention("ssim/mdcsrn-port", "ssim", "a port of mDCSRN", "3D of volume / 4095, uniform window of 7, range 2",
               lambda i: _volume_ssim(i, 2 * FIXED_PEAK)),
    Convention("nrmse/protocol", "nrmse", "mrsr-bench", "RMSE / root mean square of HR, both over HR's mask",
               lambda i: i.protocol_scores["nrmse"]),
    Convention("nrmse/euclidean", "nrmse", "scikit-image (default)", "RMSE / root mean square of HR, whole volume",
               lambda i: _root(i) / _power(i) if _power(i) else None),
    Convention("nrmse/min-max", "nrmse", "scikit-image (min-max)", "RMSE / (maximum - minimum of HR), whole volume",
               lambda i: _root(i) / _range(i.hr)),
    Convention("nrmse/mean", "nrmse", "scikit-image (mean)", "RMSE / mean of HR, whole volume",
               lambda i: _root(i) / float(i.hr.mean()) if i.hr.mean() > 0 else None),
    Convention("nmse/fastmri", "nrmse", "MINet; fastMRI", "squared: sum of squared errors / sum of squares of HR",
               lambda i: (_root(i) / _power(i)) ** 2 if _power(i) else None),
    Convention("rmse/pirm", "rmse", "PIRM 2018", "luminance (16 to 235) of slices of 8 bits, 4 pixels cut off on "
               "every side; root of the mean squared error over all slices", lambda i: _pirm_rmse(i.luminance)),
    Convention("niqe/pirm", "niqe", "PIRM 2018", "of SR's slices as for rmse/pirm, blocks of 96 pixels, mean over "
               "slices", lambda i: i.niqe),
    Convention("pi/pirm", "pi", "PIRM 2018", "((10 - Ma) + NIQE) / 2, each a mean over SR's slices as for rmse/pirm",
               lambda i: ((10 - i.ma) + i.niqe) / 2),
)  # fmt: skip


def chosen(names: str) -> list[Convention]:
    """The conventions called ``names``: ``all``, or names with commas between; ``psnr`` means all of PSNR.

    Raises:
        UserError: there is none of that name; near names are suggested.
    """
    known = {convention.name: convention for convention in CONVENTIONS}
    found: list[Convention] = []
    for name in (part.strip() for part in names.split(",")):
        family = [c for c in CONVENTIONS if name in ("all", c.metric)]
        if not family and name not in known:
            raise unknown_name("convention", name, [*known, "all"])
        found += [c for c in family or [known[name]] if c not in found]
    return found


def score_conventions(sr: Volume, hr: Volume, names: str = "all") -> dict[str, Any]:
    """One prediction under each convention, and the spread of each metric over them. ``sr`` lies on the grid of ``hr``.

    Raises:
        UserError: a name is unknown, or HR has no contrast.
    """
    from mrsr_bench.benchmarks.metrics.no_reference import Unavailable

    conventions = chosen(names)
    if sr.data.shape != hr.data.shape:
        raise UserError(f"the SR volume has shape {sr.data.shape} but HR has {hr.data.shape}; compare on one grid")
    if hr.data.min() == hr.data.max():
        raise UserError("HR is constant, so no convention has a range; expected an image with contrast")
    images = Images(sr, hr)
    rows = []
    for convention in conventions:
        reason = "SR equals HR, or the volume is too small for it"
        try:
            value = convention.compute(images)
        except Unavailable as error:
            value, reason = None, str(error)
        value = value if value is not None and math.isfinite(value) else None
        row = {"name": convention.name, "metric": convention.metric, "value": value}
        if value is None:
            row["reason"] = reason
        rows.append({**row, "code": convention.code, "summary": convention.summary})
    return {"conventions": rows, "spread": _spread(rows)}


def _spread(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Lowest and highest value of PSNR and SSIM; errors of other normalisations have no common unit."""
    spread = {}
    for metric in ("psnr", "ssim"):
        values = [row["value"] for row in rows if row["metric"] == metric and row["value"] is not None]
        if len(values) > 1:
            spread[metric] = {"lowest": min(values), "highest": max(values), "spread": max(values) - min(values)}
    return spread


def score_conventions_of_files(sr_path: Path, hr_path: Path, names: str = "all") -> dict[str, Any]:
    """`score_conventions` of two files on one grid.

    Raises:
        UserError: a file cannot be read, SR does not lie on the HR grid, or as `score_conventions`.
    """
    from mrsr_bench.benchmarks.comparison import SAME_GRID_VOXELS
    from mrsr_bench.volume import load

    chosen(names)
    sr, hr = load(sr_path), load(hr_path)
    if not sr.grid.same_as(hr.grid, SAME_GRID_VOXELS):
        raise UserError(
            f"{sr_path.name}: does not lie on the HR grid (shape {sr.data.shape}, expected {hr.data.shape}, and the "
            "same affine); nothing is resampled for scoring, so upscale onto the HR grid first"
        )
    return score_conventions(sr, hr, names)


def table(found: dict[str, Any]) -> RenderableType:
    """The conventions as a table, the spread below."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title="one prediction, many conventions", title_justify="left")
    for column in ("convention", "value", "used by", "what it is"):
        shown.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for row in found["conventions"]:
        digits = 2 if row["metric"] in ("psnr", "rmse") else 4
        value = f"– ({row['reason']})" if row["value"] is None else f"{row['value']:.{digits}f}"
        shown.add_row(escape(row["name"]), value, escape(row["code"] or "–"), escape(row["summary"]))
    lines = [
        f"{metric}: {s['lowest']:.{d}f} to {s['highest']:.{d}f}, a spread of {s['spread']:.{d}f}"
        for (metric, s), d in zip(found["spread"].items(), (2, 4), strict=False)
    ]
    return Group(shown, *lines)
