"""Sharpness and structure: the error in fine detail (HFEN) and the spread of gradient similarity (GMSD).

HFEN: Ravishankar & Bresler 2011, IEEE TMI 30:1028, here in 3D as in QSM (Langkammer et al. 2018, MRM 79:1661): norm of
the Laplacian-of-Gaussian filtered error over that of HR. GMSD: Xue et al. 2014, IEEE TIP 23:684, of 2D slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score
from mrsr_bench.benchmarks.metrics.region import bounding_box, foreground_slices, slice_axis
from mrsr_bench.benchmarks.metrics.threads import in_threads

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOG_SIGMA, LOG_RADIUS = 1.5, 7
"""Voxels: a kernel of 15 voxels a side."""
GMSD_T = 170.0
"""Of images from 0 to 255."""


def hfen(error: npt.NDArray[np.floating], hr: npt.NDArray[np.floating], mask: npt.NDArray[np.bool_]) -> float | None:
    """Norm of LoG(error) over norm of LoG(hr), over ``mask``; None where HR has no detail.

    LoG is `scipy.ndimage.gaussian_laplace` of sigma 1.5 voxels, cut at 7 voxels, faces mirrored.
    """
    import numpy as np
    from scipy.ndimage import gaussian_laplace

    box = bounding_box(mask)
    wide = tuple(slice(max(0, s.start - LOG_RADIUS), s.stop + LOG_RADIUS) for s in box)
    inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, wide, strict=True))

    def norm(data: npt.NDArray[np.floating]) -> float:
        truncate = LOG_RADIUS / LOG_SIGMA
        filtered = gaussian_laplace(data[wide].astype(np.float32), LOG_SIGMA, mode="reflect", truncate=truncate)
        kept = filtered[inner][mask[box]].astype(np.float64)
        return math.sqrt(float(np.vdot(kept, kept)))

    of_error, of_hr = in_threads(norm, (error, hr))
    return of_error / of_hr if of_hr > 0 else None


def hfen_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """hfen over the region."""
    reference = comparison.reference
    value = hfen(comparison.sr - reference.hr.data, reference.hr.data, reference.region)
    return [Score(key, value, reason=None if value is not None else "HR has no detail") for key in keys]


def gmsd(sr: npt.NDArray[np.float64], hr: npt.NDArray[np.float64]) -> float:
    """GMSD of one image (height, width; values 0 to 255): 0 for equal images."""
    import numpy as np
    from scipy.ndimage import correlate

    gradients = []
    for image in (sr, hr):
        high, wide = (size - size % 2 for size in image.shape)
        half = image[:high, :wide].reshape(high // 2, 2, wide // 2, 2).mean(axis=(1, 3))
        prewitt = np.array([[1.0, 0.0, -1.0]] * 3) / 3
        parts = [correlate(half, kernel, mode="constant") for kernel in (prewitt, prewitt.T)]
        gradients.append(np.hypot(*parts))
    a, b = gradients
    return float(((2 * a * b + GMSD_T) / (a * a + b * b + GMSD_T)).std(ddof=1))


def gmsd_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """gmsd of every slice with enough foreground, and the mean."""
    import numpy as np

    reference = comparison.reference
    axis = slice_axis(reference.mask.shape, reference.degraded_axes, whole_plane=True)
    indices = foreground_slices(reference.mask, axis)
    if not indices:
        return [Score(key, None, reason="no slice has more than 25 % foreground") for key in keys]
    sr, hr = (np.moveaxis(data, axis, 0) for data in (comparison.sr, reference.hr.data))
    if min(hr.shape[1:]) < 4:
        return [Score(key, None, reason=f"slices of shape {hr.shape[1:]} are too small for gradients") for key in keys]
    scale = 255 / reference.range
    values = in_threads(lambda i: gmsd(sr[i].astype(np.float64) * scale, hr[i].astype(np.float64) * scale), indices)
    scores = []
    for key in keys:
        scores.append(Score(key, math.fsum(values) / len(values)))
        scores += [Score(key, value, index) for index, value in zip(indices, values, strict=True)]
    return scores


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        name="hfen",
        version=1,
        direction="lower",
        units="1",
        summary="error of fine detail: high-frequency error norm",
        source="Ravishankar & Bresler 2011, IEEE TMI 30:1028; 3D: Langkammer et al. 2018, MRM 79:1661",
        convention="3D Laplacian of Gaussian (sigma 1.5 voxels, radius 7) of the unmasked volumes; norm of the error's "
        "over norm of HR's, over foreground and hull",
        ranked=True,
        reference=True,
        compute=f"{__name__}:hfen_scores",
    ),
    MetricSpec(
        name="gmsd",
        version=1,
        direction="lower",
        units="1",
        summary="spread of the similarity of gradients",
        source="Xue et al. 2014, IEEE TIP 23:684",
        convention="per slice of the plane of psnr_slice, foreground above 25 %, volume / q x 255 neither clipped nor "
        "rounded, averaged 2x2, Prewitt, T = 170; mean over slices",
        ranked=False,
        reference=True,
        compute=f"{__name__}:gmsd_scores",
    ),
)
