"""From any head to what HighRes3DNet was trained on: bias removed, RAS at 1 mm, standard histogram, whitened.

The landmarks are those that come with the network in NiftyNet's model zoo (histogram standardisation of Nyúl et al.
2000, IEEE TMI 19:143, over the voxels above the mean).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mrsr_bench import UserError
from mrsr_bench.volume import FloatArray, Grid, Volume

if TYPE_CHECKING:
    Array = npt.NDArray[np.float64]

PERCENTILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
LANDMARKS = (
    4.4408920985e-16,
    8.06305571158,
    15.5085721044,
    21.5032879029,
    26.1413278906,
    29.9862059045,
    33.8384058795,
    38.1891334787,
    44.0109152758,
    58.3906435207,
    100.0,
)
"""Where the `PERCENTILES` of the voxels above the mean go. The network's quartiles are not used, as NiftyNet does."""

N4_SHRINK_MM, N4_ITERATIONS = 4.0, (50, 50, 30)
_ALREADY_1_MM = 1e-3


def n4_corrected(volume: Volume) -> Volume:
    """``volume`` divided by its bias field (N4ITK, Tustison et al. 2010, IEEE TMI 29:1310, fitted at about 4 mm).

    Raises:
        UserError: SimpleITK is not installed, or the image cannot be fitted.
    """
    try:
        import SimpleITK as sitk  # noqa: N813 - the name that everybody uses
    except ImportError as error:
        raise UserError("N4 needs SimpleITK; pip install 'mrsr-bench[segmentation]'") from error
    from mrsr_bench.benchmarks.metrics.region import foreground_mask, intensity_range

    mask = foreground_mask(volume.data, intensity_range(volume.data))
    image = sitk.GetImageFromArray(np.maximum(volume.data, 0).T.astype(np.float32))
    image.SetSpacing(volume.spacing)
    head = sitk.GetImageFromArray(mask.T.astype(np.uint8))
    head.CopyInformation(image)
    shrink = [max(1, round(N4_SHRINK_MM / spacing)) for spacing in volume.spacing]
    fitting = sitk.N4BiasFieldCorrectionImageFilter()
    fitting.SetMaximumNumberOfIterations(list(N4_ITERATIONS))
    try:
        fitting.Execute(sitk.Shrink(image, shrink), sitk.Shrink(head, shrink))
        field = sitk.GetArrayFromImage(sitk.Exp(fitting.GetLogBiasFieldAsImage(image))).T
    except RuntimeError as error:
        raise UserError(f"the bias field cannot be fitted ({' '.join(str(error).split())[-120:]})") from error
    return volume.with_data(volume.data / np.maximum(field, 1e-3))


def one_mm_grid(grid: Grid) -> Grid:
    """The grid of 1 mm voxels along the axes of ``grid``, turned to R, A, S; first voxel centres in one place."""
    order = grid.world_to_array()
    columns, origin = [], grid.affine[:3, 3].copy()
    shape = []
    for world, axis in enumerate(order):
        column = grid.affine[:3, axis]
        length, count = grid.spacing[axis], grid.shape[axis]
        if column[world] < 0:
            origin += column * (count - 1)
            column = -column
        step = 1.0 if abs(length - 1) > _ALREADY_1_MM else length
        columns.append(column / length * step)
        shape.append(max(1, round(count * length / step)))
    affine = np.eye(4)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = origin
    return Grid((shape[0], shape[1], shape[2]), affine)


def standardised(data: FloatArray) -> Array:
    """Intensities mapped piecewise linearly so that the percentiles of the voxels above the mean hit the landmarks.

    Raises:
        UserError: the image is constant.
    """
    bright = data[data > data.mean(dtype=np.float64)]
    if not bright.size or bright.min() == bright.max():
        raise UserError("the image has no contrast to segment")
    found = np.percentile(bright.astype(np.float64), PERCENTILES)
    steps = np.diff(found)
    slopes = np.where(steps > 0, np.diff(LANDMARKS) / np.where(steps > 0, steps, 1), 0)
    offsets = np.asarray(LANDMARKS[:-1]) - slopes * found[:-1]
    piece = np.digitize(data, found[1:-1])
    return np.asarray(slopes[piece] * data + offsets[piece])


def whitened(data: Array) -> FloatArray:
    """Zero mean and unit standard deviation over the voxels above the mean."""
    bright = data[data > data.mean()]
    return np.asarray((data - bright.mean()) / bright.std(), dtype=np.float32)


def prepared(volume: Volume) -> Volume:
    """``volume`` as the network wants it: N4, R A S at 1 mm (linear), standardised, whitened.

    Raises:
        UserError: SimpleITK is not installed, or the image has no contrast.
    """
    from mrsr_bench.zoo.regrid import regrid

    corrected = n4_corrected(volume)
    resampled = regrid(corrected, one_mm_grid(volume.grid), "linear")
    return resampled.with_data(whitened(standardised(resampled.data)))
