"""Metrics that compare SR with HR: PSNR, SSIM, NRMSE, RMSE over the region, slice by slice, and over whole volumes.

SSIM is that of Wang et al. 2004 (IEEE TIP 13:600), as scikit-image's ``structural_similarity`` computes it with
``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``. Here the Gaussian is one narrow band matrix per axis,
cut into small dense blocks, so that filtering is matrix products, two planes at a time, which stay in the cache of a
core, and only where the value is needed; every core works on its own planes. Four moments are enough: with s = x + y
and d = x - y, those of s, d, s², d². They are taken about the mean, which keeps float32 accurate to better than 1e-6.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score
from mrsr_bench.benchmarks.metrics.region import bounding_box, foreground_slices, slice_axis
from mrsr_bench.benchmarks.metrics.threads import in_threads, shares

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from mrsr_bench.benchmarks.metrics.region import Box, Mask
    from mrsr_bench.volume import FloatArray

    Blocks = list[tuple[slice, slice, torch.Tensor]]

SIGMA, RADIUS = 1.5, 5
"""Voxels: 3.5 sigma, truncated as scipy does."""
K1, K2 = 0.01, 0.03
_PLANES, _DEPTH, _BLOCK = 2, 8, 32
"""Planes filtered at a time, planes of a 3D map made at a time, outputs per block. Groups of planes begin at multiples
of these, whichever thread has them, so that the number of threads changes no bit."""

_EQUAL = "SR equals HR"
_NO_SLICES = "no slice has more than 25 % foreground"


# ---------------------------------------------------------------------------------------------------- SSIM


def gaussian_matrix(size: int, start: int, stop: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Gaussian weights of the outputs ``start`` to ``stop`` on an axis of ``size`` voxels, mirrored about its faces.

    Returns the first input that is needed and the matrix (outputs, inputs from there on).
    """
    import numpy as np

    taps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (taps / SIGMA) ** 2)
    weights /= weights.sum()
    inputs = (np.arange(start, stop)[:, None] + taps) % (2 * size)
    inputs = np.where(inputs >= size, 2 * size - 1 - inputs, inputs)
    first = int(inputs.min())
    matrix = np.zeros((stop - start, int(inputs.max()) + 1 - first))
    np.add.at(matrix, (np.arange(stop - start)[:, None], inputs - first), weights)
    return first, matrix


def _blocks(matrix: npt.NDArray[np.float64]) -> Blocks:
    import numpy as np
    import torch

    blocks = []
    for start in range(0, matrix.shape[0], _BLOCK):
        rows = matrix[start : start + _BLOCK]
        used = np.flatnonzero(rows.any(axis=0))
        columns = slice(int(used[0]), int(used[-1]) + 1)
        dense = torch.from_numpy(rows[:, columns].astype(np.float32))
        blocks.append((slice(start, start + len(rows)), columns, dense))
    return blocks


class _InPlane:
    """The four moments of planes of SR and HR, Gaussian-filtered within the plane, at the pixels of a window."""

    def __init__(self, sr: FloatArray, hr: FloatArray, q: float, centre: float, window: tuple[slice, slice]) -> None:
        import numpy as np

        self.sr, self.hr, self.scale = sr, hr, np.float32(1 / q)
        self.twice_centre = np.float32(2 * centre / q)
        self.shape = tuple(w.stop - w.start for w in window)
        read, self.blocks = [], []
        for size, wanted in zip(sr.shape[1:], window, strict=True):
            first, matrix = gaussian_matrix(size, wanted.start, wanted.stop)
            read.append(slice(first, first + matrix.shape[1]))
            self.blocks.append(_blocks(matrix))
        self.read = tuple(read)
        self.memory: tuple[FloatArray, torch.Tensor] | None = None

    def of_a_thread(self) -> _InPlane:
        """The same with memory of its own."""
        one = copy.copy(self)
        one.memory = None
        return one

    def filtered(self, start: int, stop: int, out: torch.Tensor) -> torch.Tensor:
        """``out``, shape (4, planes, height, width), filled for the planes ``start`` to ``stop``."""
        import numpy as np
        import torch

        where = (slice(start, stop), *self.read)
        x, y = self.sr[where], self.hr[where]
        moments, rows = self._buffers(stop - start)
        np.add(x, y, out=moments[0])
        np.subtract(x, y, out=moments[1])
        moments[:2] *= self.scale
        moments[0] -= self.twice_centre
        with np.errstate(over="ignore"):  # such a score is not finite, and says so
            np.square(moments[:2], out=moments[2:])
        flat = torch.from_numpy(moments).view(-1, moments.shape[-1])
        for to, used, weights in self.blocks[1]:
            torch.mm(flat[:, used], weights.T, out=rows[:, to])
        stacked, parts = rows.view(4, stop - start, -1, self.shape[1]), out
        if out.is_contiguous():  # then all moments at once
            stacked, parts = stacked.flatten(0, 1)[None], out.flatten(0, 1)[None]
        for to, used, weights in self.blocks[0]:
            for filtered, moment in zip(parts, stacked, strict=True):
                torch.bmm(weights.expand(len(moment), -1, -1), moment[:, used], out=filtered[:, to])
        return out

    def empty(self, count: int) -> torch.Tensor:
        """Memory for the moments of ``count`` planes."""
        import torch

        return torch.empty(4, count, *self.shape)

    def _buffers(self, count: int) -> tuple[FloatArray, torch.Tensor]:
        """Memory for what comes between, for ``count`` planes, used again and again."""
        import numpy as np
        import torch

        height, width = (used.stop - used.start for used in self.read)
        if self.memory is None or self.memory[0].shape[1] != count:
            self.memory = (
                np.empty((4, count, height, width), dtype=np.float32),
                torch.empty(4 * count * height, self.shape[1]),
            )
        return self.memory

    def ssim(self, moments: torch.Tensor) -> torch.Tensor:
        """The SSIM map from filtered moments (4, ...), for a range of 1; ``moments`` are used up."""
        total, difference, total_square, difference_square = moments
        c1, c2 = 2 * K1**2, 2 * K2**2
        total_variance = total_square.addcmul_(total, total, value=-1).add_(c2)
        total = total.add_(float(self.twice_centre)).square_().add_(c1)
        difference = difference.square_()
        difference_variance = difference_square.sub_(difference)
        value: torch.Tensor = (total - difference).mul_(total_variance - difference_variance)
        return value.div_(total.add_(difference).mul_(total_variance.add_(difference_variance)))


def ssim_volume_mean(sr: FloatArray, hr: FloatArray, q: float, box: Box, mask: Mask | None = None) -> float:
    """Mean of the 3D SSIM map over ``mask`` (of the box's shape; None: everything) inside ``box``; range ``q``."""
    in_plane = _InPlane(sr, hr, q, float(hr[box].mean(dtype="float64")), (box[1], box[2]))
    slabs = [(start, min(start + _DEPTH, box[0].stop)) for start in range(box[0].start, box[0].stop, _DEPTH)]

    def sums(share: Sequence[tuple[int, int]]) -> list[float]:
        return list(_slab_sums(in_plane.of_a_thread(), share, box, mask))

    count = math.prod(side.stop - side.start for side in box) if mask is None else int(mask.sum())
    return math.fsum(total for share in in_threads(sums, shares(slabs)) for total in share) / count


def _slab_sums(in_plane: _InPlane, slabs: Sequence[tuple[int, int]], box: Box, mask: Mask | None) -> Iterator[float]:
    """The sum of the SSIM map over ``mask`` in each of ``slabs``, neighbours along the first axis."""
    import torch

    size = in_plane.sr.shape[0]
    memory, held = in_plane.empty(_DEPTH + 2 * RADIUS + 2 * _PLANES), range(0)
    for start, stop in slabs:
        first, matrix = gaussian_matrix(size, start, stop)
        last = first + matrix.shape[1]
        begin = first - first % _PLANES
        kept = max(held.stop - begin, 0)
        if kept and begin > held.start:
            memory[:, :kept] = memory[:, begin - held.start : held.stop - held.start].clone()
        end = begin + kept
        while end < last:
            group = min(end + _PLANES, size)
            in_plane.filtered(end, group, memory[:, end - begin : group - begin])
            end = group
        held = range(begin, end)
        weights = torch.from_numpy(matrix).float().expand(4, -1, -1)
        planes = memory[:, first - begin : last - begin].flatten(2)
        values = in_plane.ssim(torch.bmm(weights, planes).view(4, stop - start, *in_plane.shape))
        if mask is not None:
            outside = ~mask[start - box[0].start : stop - box[0].start]
            values.masked_fill_(torch.from_numpy(outside), 0)
        yield float(values.sum(dtype=torch.float64))


def ssim_slice_means(
    sr: FloatArray, hr: FloatArray, q: float, indices: Sequence[int], centre: float | None = None
) -> list[float]:
    """Mean 2D SSIM, borders of 5 pixels left out, of the slices ``indices`` along the first axis; range ``q``.

    ``centre``, about which moments are taken, changes rounding alone; by default the mean of ``hr``.
    """
    import torch

    window = (slice(RADIUS, sr.shape[1] - RADIUS), slice(RADIUS, sr.shape[2] - RADIUS))
    in_plane = _InPlane(sr, hr, q, float(hr.mean(dtype="float64")) if centre is None else centre, window)

    def means(share: Sequence[tuple[int, int]]) -> list[float]:
        own = in_plane.of_a_thread()
        memory, found = own.empty(_PLANES), []
        for start, stop in share:
            values = own.ssim(own.filtered(start, stop, memory[:, : stop - start]))
            found += values.mean(dim=(1, 2), dtype=torch.float64).tolist()
        return found

    return [mean for share in in_threads(means, shares(list(_runs(indices)))) for mean in share]


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending ``indices`` as runs of neighbours, at most `_PLANES` long."""
    start = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1 or at - start == _PLANES:
            yield indices[start], indices[at - 1] + 1
            start = at


# ------------------------------------------------------------------------------------------------- squared errors


def _squares(
    sr: FloatArray, hr: FloatArray, mask: Mask | None = None, indices: Sequence[int] | None = None
) -> npt.NDArray[np.float64]:
    """Per slice (``indices`` of the first axis): sums of squared error, of HR squared, number of voxels; float64."""
    import numpy as np

    def sums(index: int) -> tuple[float, float, int]:
        y = hr[index].astype(np.float64)
        error = sr[index] - y
        if mask is not None:
            y *= mask[index]
            error *= mask[index]
        count = y.size if mask is None else int(np.count_nonzero(mask[index]))
        return float(np.vdot(error, error)), float(np.vdot(y, y)), count

    def of_share(share: Sequence[int]) -> list[tuple[float, float, int]]:
        return [sums(index) for index in share]

    everything = range(sr.shape[0]) if indices is None else indices
    return np.array([found for share in in_threads(of_share, shares(everything)) for found in share])


def _psnr(squared: Any, q: float) -> float | None:
    error, _, count = squared
    return 10 * math.log10(q * q * count / error) if error > 0 else None


def _nrmse(squared: Any, q: float) -> float | None:
    error, power, _ = squared
    return math.sqrt(error / power) if power > 0 else None


def _rmse(squared: Any, q: float) -> float | None:
    error, _, count = squared
    return math.sqrt(error / count)


_OF_SQUARES: dict[str, tuple[Callable[[Any, float], float | None], str]] = {
    "psnr": (_psnr, _EQUAL),
    "nrmse": (_nrmse, "HR is zero everywhere"),
    "rmse": (_rmse, ""),
}


# ------------------------------------------------------------------------------------------------------- scores


def region_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """psnr, ssim, nrmse and rmse over the region, volume-wise."""
    reference = comparison.reference
    box = bounding_box(reference.region)
    mask = reference.region[box]
    squared = _squares(comparison.sr[box], reference.hr.data[box], mask).sum(axis=0)
    scores = []
    for key in keys:
        if key == "ssim":
            value = ssim_volume_mean(comparison.sr, reference.hr.data, reference.range, box, mask)
            scores.append(Score(key, value))
        else:
            scores.append(_of_squares(key, key, squared, reference.range))
    return scores


def volume_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """The whole-volume variants: no mask, no hull."""
    reference, sr = comparison.reference, comparison.sr
    hr = reference.hr.data
    squared = _squares(sr, hr).sum(axis=0)
    scores = []
    for key in keys:
        kind = key.removesuffix("_volume")
        if kind != "ssim":
            scores.append(_of_squares(key, kind, squared, reference.range))
        elif min(sr.shape) <= 2 * RADIUS:
            scores.append(
                Score(key, None, reason=f"a volume of shape {sr.shape} is smaller than the window of 11 voxels")
            )
        else:
            x, y, z = (slice(RADIUS, n - RADIUS) for n in sr.shape)
            scores.append(Score(key, ssim_volume_mean(sr, hr, reference.range, (x, y, z))))
    return scores


def slice_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """The slice-wise variants: a score of every slice with enough foreground, and their mean."""
    reference = comparison.reference
    axis = slice_axis(reference.mask.shape, reference.degraded_axes, whole_plane=True)
    indices = foreground_slices(reference.mask, axis)
    if not indices:
        return [Score(key, None, reason=_NO_SLICES) for key in keys]
    sr, hr = in_threads(lambda data: _stacked(data, axis, indices), (comparison.sr, reference.hr.data))
    squared = _squares(sr, hr)
    scores = []
    for key in keys:
        kind = key.removesuffix("_slice")
        if kind != "ssim":
            of_slices = [
                _of_squares(key, kind, sums, reference.range, index)
                for index, sums in zip(indices, squared, strict=True)
            ]
        elif min(sr.shape[1:]) <= 2 * RADIUS:
            scores.append(
                Score(key, None, reason=f"slices of shape {sr.shape[1:]} are smaller than the window of 11 pixels")
            )
            continue
        else:
            centre = float(reference.hr.data[::8].mean(dtype="float64"))
            means = ssim_slice_means(sr, hr, reference.range, range(len(indices)), centre)
            of_slices = [Score(key, mean, index) for index, mean in zip(indices, means, strict=True)]
        scores += [_mean_of(key, of_slices), *of_slices]
    return scores


def _stacked(data: FloatArray, axis: int, indices: Sequence[int]) -> FloatArray:
    """The slices ``indices`` across ``axis``, one after another in memory.

    Row by row, which reads the volume in its own order: several times faster than one transposed copy of it.
    """
    import numpy as np

    if axis == 0:
        return np.ascontiguousarray(data[indices[0] : indices[-1] + 1] if _adjoin(indices) else data[list(indices)])
    wanted = slice(indices[0], indices[-1] + 1) if _adjoin(indices) else list(indices)
    high, wide = (data.shape[other] for other in range(3) if other != axis)
    out = np.empty((len(indices), high, wide), dtype=data.dtype)
    for row in range(high):
        out[:, row] = data[row][wanted] if axis == 1 else data[row][:, wanted].T
    return out


def _adjoin(indices: Sequence[int]) -> bool:
    return indices[-1] - indices[0] + 1 == len(indices)


def _of_squares(key: str, kind: str, squared: Any, q: float, index: int | None = None) -> Score:
    function, reason = _OF_SQUARES[kind]
    value = function(squared, q)
    return Score(key, value, index, reason=reason if value is None else None)


def _mean_of(key: str, of_slices: Sequence[Score]) -> Score:
    values = [result.value for result in of_slices if result.value is not None]
    if len(values) == len(of_slices):
        return Score(key, math.fsum(values) / len(values))
    without = [result.reason for result in of_slices if result.value is None]
    where = "" if len(without) == len(of_slices) else f" in {len(without)} of {len(of_slices)} slices"
    return Score(key, None, reason=f"{without[0]}{where}")


_Direction = Literal["higher", "lower"]
_WHAT: dict[str, tuple[_Direction, str, str, str]] = {
    "psnr": ("higher", "dB", "peak signal-to-noise ratio", "10 log10(q² / mean squared error)"),
    "ssim": ("higher", "1", "structural similarity", "Wang et al. 2004, IEEE TIP 13:600"),
    "nrmse": ("lower", "1", "normalised root mean squared error", "RMSE / root mean square of HR"),
    "rmse": ("lower", "intensity", "root mean squared error", "root of the mean squared error, in the units of HR"),
}
_Q = "q = 99.9th percentile of the HR voxels above the HR mean"
_GAUSSIAN = "Gaussian window (sigma 1.5, radius 5), K1 .01, K2 .03, population covariance"
_REGION = f"volume-wise over foreground and hull; range {_Q}"
_SLICE = (
    "whole slices, no mask, of the plane of the two degraded axes (one or three degraded: the largest plane with a "
    f"degraded axis) with more than 25 % foreground, mean over slices; range {_Q}"
)
_VOLUME = f"over the whole volume, no mask and no hull; range {_Q}"
_BORDER = "borders of 5 left out as scikit-image's mean does"
_VARIANTS: tuple[tuple[str, str, str, str, str, bool], ...] = (
    ("", "region_scores", "in the region", _REGION, f"3D map of the unmasked volumes, {_GAUSSIAN}", True),
    ("_slice", "slice_scores", "slice by slice", _SLICE, f"2D, {_GAUSSIAN}, {_BORDER}", True),
    ("_volume", "volume_scores", "of the whole volume", _VOLUME, f"3D, {_GAUSSIAN}, {_BORDER}", False),
)


def _specs() -> Iterator[MetricSpec]:
    for suffix, function, where, convention, window, ranked in _VARIANTS:
        for kind, (direction, units, summary, source) in _WHAT.items():
            if kind == "rmse" and suffix:
                continue
            yield MetricSpec(
                name=kind + suffix,
                version=1,
                direction=direction,
                units=units,
                summary=f"{summary} {where}",
                source=source,
                convention=f"{window}; {convention}" if kind == "ssim" else convention,
                ranked=ranked and kind != "rmse",
                reference=True,
                compute=f"{__name__}:{function}",
            )


METRICS: tuple[MetricSpec, ...] = tuple(_specs())
