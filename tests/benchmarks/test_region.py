"""The region of the scores is the one that the protocol defines, whatever way the arrays lie."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.metrics.region import (
    foreground_mask,
    foreground_slices,
    hull,
    intensity_range,
    mask_sha256,
    reference_of,
    slice_axis,
)
from mrsr_bench.volume import Volume

AFFINE = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.1, 0.05, 7], [0, -0.05, 1.3, 3], [0, 0, 0, 1]])


def head(shape=(33, 40, 36), seed=0):
    """A noisy ball with a dark inside and a bright neighbour: has holes, gaps and several components."""
    rng = np.random.default_rng(seed)
    centred = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((centred**2).sum(0))
    image = np.where(radius < 0.8, 100.0, 0) * (radius > 0.35) + np.where(centred[0] > 0.93, 60.0, 0)
    image = image * (rng.random(shape) > 0.25) + rng.rayleigh(3, shape)
    return Volume(image.astype(np.float32), AFFINE)


def plain_mask(data, q):
    """The definition, word by word."""
    offsets = np.indices((5, 5, 5)) - 2
    ball = (offsets**2).sum(0) <= 4
    mask = ndimage.binary_closing(np.pad(data > 0.1 * q, 6), ball)[6:-6, 6:-6, 6:-6]
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_mask_is_the_plain_definition(seed):
    volume = head(seed=seed)
    q = intensity_range(volume.data)
    assert np.array_equal(foreground_mask(volume.data, q), plain_mask(volume.data, q))


@pytest.mark.parametrize("density", [0.03, 0.1, 0.2, 0.5])
def test_the_mask_of_scattered_voxels_at_the_border_is_the_plain_definition(density):
    data = (np.random.default_rng(5).random((14, 3, 21)) < density).astype(np.float32)
    assert np.array_equal(foreground_mask(data, 1.0), plain_mask(data, 1.0))


def test_the_range_is_the_percentile_of_the_voxels_above_the_mean():
    data = np.random.default_rng(1).gamma(2, 50, (20, 21, 22)).astype(np.float32)
    assert intensity_range(data) == pytest.approx(np.percentile(data[data > data.mean()], 99.9), rel=1e-6)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((3, 3, 3)), "constant"),
        (np.full((3, 3, 3), 0.1), "constant"),
        (np.zeros((0, 3, 3)), "empty"),
        (-np.arange(1.0, 28).reshape(3, 3, 3), "not positive"),
    ],
)
def test_an_image_without_range_is_refused_in_one_sentence(data, says):
    with pytest.raises(UserError, match=says):
        intensity_range(data.astype(np.float32))


def turned(volume, order, flips):
    """The same volume with its array axes permuted and flipped."""
    data = volume.data.transpose(order)
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, old in enumerate(order):
        change[old, new] = 1
    affine = volume.affine @ change
    for axis, flip in enumerate(flips):
        if flip:
            data = np.flip(data, axis)
            affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
            affine[:3, axis] *= -1
    return Volume(data.copy(), affine, tuple(volume.acquisition[axis] for axis in order))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("kspace_truncation", {"factor": [2, 2, 1]}, [(0, 31), (0, 39), (0, 36)]),  # 33 -> 16 samples, 40 -> 20
        ("thick_slices", {"factor": [1, 1, 4]}, [(0, 33), (0, 40), (2, 34)]),  # centres at 1.5 ... 33.5
        ("thin_slices", {"factor": [1, 1, 4]}, [(0, 33), (0, 40), (0, 33)]),
    ],
)
def test_the_hull_runs_from_the_first_to_the_last_lr_sample_however_the_axes_lie(name, settings, expected):
    volume, degradation = head(), degradations.get(name)
    params = degradation.sample(np.random.default_rng(0), volume, settings)
    lr, hr = degradation.apply(volume, params), degradation.reference(volume, params)
    straight = reference_of(hr, lr)
    assert hull(hr.grid, lr.grid, straight.degraded_axes) == tuple(slice(*ends) for ends in expected)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product([False, True], repeat=3):
            assert reference_of(hr, turned(lr, order, flips)).degraded_axes == straight.degraded_axes
            moved = reference_of(turned(hr, order, flips), lr)
            back = turned(Volume(straight.region.astype(np.float32), hr.affine), order, flips)
            assert np.array_equal(moved.region, back.data > 0)


def test_an_axis_with_a_slice_profile_is_degraded_even_at_equal_spacing():
    from dataclasses import replace

    from mrsr_bench.volume import AxisAcquisition

    volume = head()
    lr = replace(volume, acquisition=(AxisAcquisition(), AxisAcquisition("kspace", 2.2), AxisAcquisition()))
    assert reference_of(volume, lr).degraded_axes == (1,)


def test_without_lr_the_region_is_the_mask():
    reference = reference_of(head())
    assert reference.degraded_axes == ()
    assert np.array_equal(reference.region, reference.mask)


def test_images_that_are_not_parallel_or_do_not_overlap_are_refused():
    volume = head()
    oblique = np.eye(4)
    oblique[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(UserError, match="not parallel"):
        reference_of(volume, Volume(volume.data, volume.affine @ oblique))
    far = volume.affine @ np.array([[2, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    with pytest.raises(UserError, match="do not overlap"):
        reference_of(volume, Volume(volume.data, far))


def test_the_hash_tells_masks_apart():
    mask = reference_of(head()).mask
    other = mask.copy()
    other[16, 20, 5] ^= True
    assert mask_sha256(mask) == mask_sha256(mask.copy(order="F"))
    assert len({mask_sha256(mask), mask_sha256(other), mask_sha256(mask.reshape(40, 33, 36))}) == 3


@pytest.mark.parametrize(
    ("shape", "degraded", "whole_plane", "axis"),
    [
        ((170, 256, 256), (0, 1), False, 0),
        ((170, 256, 256), (0, 1), True, 2),
        ((160, 192, 150), (2,), True, 0),
        ((100, 90, 80), (2,), False, 1),  # the plane of axes 0 and 1 is larger but not degraded
        ((64, 64, 64), (0, 2), False, 1),
        ((10, 20, 30), (), False, 0),
    ],
)
def test_slices_lie_in_the_largest_plane_with_a_degraded_axis(shape, degraded, whole_plane, axis):
    assert slice_axis(shape, degraded, whole_plane=whole_plane) == axis


def test_a_slice_needs_more_than_a_quarter_of_foreground():
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[1, 0] = True
    mask[2, 0] = mask[2, 1, 0] = True
    assert foreground_slices(mask, 0) == [2]
