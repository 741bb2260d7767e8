"""Regrid against implementations that share nothing with it: scipy on whole volumes, nibabel.processing, SimpleITK."""

from itertools import permutations

import nibabel
import nibabel.processing
import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import map_coordinates
from scipy.signal import resample

from mrsr_bench import UserError
from mrsr_bench.volume import Grid, Volume
from mrsr_bench.zoo.regrid import INTERPOLATIONS, SPLINE_ORDER, interpolation_matrix, regrid

SPLINES = ("nearest", "linear", "cubic")
SOURCE_AFFINE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-1.2, 0.9, 2.0]), [10, -20, 5]
)


def smooth(*shape, seed=5):
    from scipy.ndimage import gaussian_filter

    return (gaussian_filter(np.random.default_rng(seed).normal(0, 300, shape), 1.5) + 100).astype(np.float32)


def source(*shape):
    return Volume(smooth(*shape), SOURCE_AFFINE)


def finer(volume, shape, step, origin):
    return volume.grid.resized(shape, step, origin)


def at_target(volume, target, order):
    """scipy's own answer: every target voxel centre through world space, edges replicated."""
    voxel = np.indices(target.shape).reshape(3, -1)
    change = np.linalg.inv(volume.affine) @ target.affine
    coordinates = np.round(change[:3, :3] @ voxel + change[:3, 3:], 7)
    return map_coordinates(volume.data.astype(float), coordinates, order=order, mode="nearest").reshape(target.shape)


@pytest.mark.parametrize("interpolation", SPLINES)
@pytest.mark.parametrize(
    ("shape", "step", "origin"),
    [
        ((20, 22, 40), (0.5, 0.5, 0.25), (0, 0, -0.375)),
        ((9, 14, 17), (1.7, 0.8, 0.61), (0.3, -2.4, 5)),
        ((30, 11, 10), (1, 1, 1), (-9, 0, 0)),
    ],
)
def test_splines_equal_map_coordinates(interpolation, shape, step, origin):
    volume = source(10, 11, 10)
    target = finer(volume, shape, step, origin)
    expected = at_target(volume, target, SPLINE_ORDER[interpolation])
    np.testing.assert_allclose(regrid(volume, target, interpolation).data, expected, atol=2e-4)


@pytest.mark.parametrize("interpolation", SPLINES)
def test_permuted_and_flipped_targets_equal_map_coordinates(interpolation):
    volume = source(10, 11, 12)
    for axes in permutations(range(3)):
        target_affine = volume.affine.copy()
        target_affine[:3, :3] = volume.affine[:3, list(axes)] * np.array([0.6, -0.6, 0.7])
        target_affine[:3, 3] = (volume.affine @ [1, 9, 2, 1])[:3]
        target = Grid((8, 9, 10), target_affine)
        expected = at_target(volume, target, SPLINE_ORDER[interpolation])
        np.testing.assert_allclose(regrid(volume, target, interpolation).data, expected, atol=2e-4, err_msg=str(axes))


def oblique_target():
    """Turned against the source, with shear, finer, partly beyond its edges."""
    matrix = nibabel.eulerangles.euler2mat(-0.3, 0.4, 0.6) @ np.diag([0.8, 0.7, 0.9])
    matrix[0, 1] += 0.1
    inside = (SOURCE_AFFINE @ [11, 11, 8, 1])[:3]
    return Grid((21, 23, 18), nibabel.affines.from_matvec(matrix, inside - matrix @ [10, 11, 9]))


@pytest.mark.parametrize("interpolation", SPLINES)
def test_oblique_targets_equal_nibabel(interpolation):
    volume, target = source(22, 23, 16), oblique_target()
    image = nibabel.Nifti1Image(volume.data.astype(np.float64), volume.affine)
    expected = nibabel.processing.resample_from_to(
        image, (target.shape, target.affine), order=SPLINE_ORDER[interpolation], mode="nearest"
    )
    np.testing.assert_allclose(regrid(volume, target, interpolation).data, expected.get_fdata(), atol=2e-4)


def as_itk(data, affine):
    lps = np.diag([-1, -1, 1, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(np.transpose(data, (2, 1, 0)).astype(np.float64)))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize(
    ("interpolation", "itk"),
    [("nearest", SimpleITK.sitkNearestNeighbor), ("linear", SimpleITK.sitkLinear), ("cubic", SimpleITK.sitkBSpline3)],
)
@pytest.mark.parametrize("oblique", [True, False])
def test_inside_the_field_of_view_splines_equal_simpleitk(interpolation, itk, oblique):
    volume = source(26, 27, 24)
    matrix = nibabel.eulerangles.euler2mat(-0.3, 0.4, 0.6) if oblique else volume.affine[:3, :3] / volume.spacing
    matrix = matrix @ np.diag([0.61, 0.47, 0.83])
    middle = (volume.affine @ [12.9, 13.2, 11.7, 1])[:3]
    target = Grid((9, 9, 9), nibabel.affines.from_matvec(matrix, middle - matrix @ [4, 4, 4]))
    reference = as_itk(np.zeros(target.shape), target.affine)
    ours = regrid(volume, target, interpolation).data
    theirs = SimpleITK.Resample(as_itk(volume.data, volume.affine), reference, SimpleITK.Transform(), itk, np.nan)
    expected = np.transpose(SimpleITK.GetArrayFromImage(theirs), (2, 1, 0))
    assert np.isfinite(expected).all()
    assert ours.std() > 1
    np.testing.assert_allclose(
        ours, expected, atol=2e-2 if interpolation == "cubic" else 1e-3
    )  # ITK prefilters to 1e-4


@pytest.mark.parametrize(("size", "kept"), [(24, 12), (25, 12), (24, 13), (25, 13), (7, 1), (8, 2)])
def test_zero_fill_equals_scipy_resample(size, kept):
    data = smooth(kept, 6, 5)
    volume = Volume(data, SOURCE_AFFINE)
    target = finer(volume, (size, 6, 5), (kept / size, 1, 1), (0, 0, 0))
    expected = resample(data.astype(float), size, axis=0)
    np.testing.assert_allclose(regrid(volume, target, "zero_fill").data, expected, rtol=1e-5, atol=1e-3)


def test_lanczos_equals_its_formula_inside_and_keeps_constants_outside():
    size, lobes = 30, 3
    coordinates = np.linspace(4.0, 24.9, 37)
    weights = interpolation_matrix(coordinates, size, "lanczos")
    for row, x in zip(weights, coordinates, strict=True):
        offset = x - np.arange(size)
        direct = np.where(np.abs(offset) < lobes, np.sinc(offset) * np.sinc(offset / lobes), 0)
        np.testing.assert_allclose(row, direct / direct.sum(), atol=1e-12)
    outside = interpolation_matrix(np.array([-5.3, -0.5, 29.5, 40.0]), size, "lanczos")
    np.testing.assert_allclose(outside.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_constants_survive_and_samples_are_met(interpolation):
    volume = source(9, 8, 7)
    flat = volume.with_data(np.full(volume.data.shape, -37.5))
    target = finer(volume, (27, 8, 28), (1 / 3, 1, 0.25), (0, 0, 0))
    np.testing.assert_allclose(regrid(flat, target, interpolation).data, -37.5, rtol=1e-5)
    np.testing.assert_allclose(
        regrid(volume, target, interpolation).data[::3, :, ::4], volume.data, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_same_grid_changes_nothing(interpolation):
    volume = source(6, 5, 4)
    np.testing.assert_array_equal(regrid(volume, volume.grid, interpolation).data, volume.data)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 2), (2, 2, 2)])
def test_the_tiniest_volumes_have_an_answer(interpolation, shape):
    volume = source(*shape)
    target = finer(volume, [2 * n for n in shape], (0.5, 0.5, 0.5), (-0.25, -0.25, -0.25))
    sr = regrid(volume, target, interpolation)
    assert sr.data.shape == target.shape
    assert np.isfinite(sr.data).all()


@pytest.mark.parametrize("interpolation", ["lanczos", "zero_fill"])
def test_what_needs_parallel_axes_says_so(interpolation):
    with pytest.raises(UserError, match="parallel axes") as raised:
        regrid(source(22, 23, 16), oblique_target(), interpolation)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_area_repeats_slices_at_whole_factors(factor):
    volume = source(4, 5, 6)
    target = finer(volume, (4, 5, 6 * factor), (1, 1, 1 / factor), (0, 0, (1 - factor) / (2 * factor)))
    repeated = np.repeat(volume.data, factor, axis=2)
    np.testing.assert_allclose(regrid(volume, target, "area").data, repeated, rtol=1e-5, atol=1e-3)
    if factor % 2:  # otherwise float dust decides which of two equally near voxels is nearest
        np.testing.assert_allclose(regrid(volume, target, "nearest").data, repeated, rtol=1e-5, atol=1e-3)


def test_area_shares_slices_where_a_voxel_lies_across_two():
    volume = source(1, 1, 4)
    target = finer(volume, (1, 1, 10), (1, 1, 0.4), (0, 0, -0.3))
    a, b, c, d = volume.data[0, 0]
    expected = [a, a, (a + b) / 2, b, b, c, c, (c + d) / 2, d, d]
    np.testing.assert_allclose(regrid(volume, target, "area").data[0, 0], expected, rtol=1e-5, atol=1e-3)
    wide = finer(volume, (1, 1, 2), (1, 1, 2), (0, 0, 0.5))
    np.testing.assert_allclose(regrid(volume, wide, "area").data[0, 0], [(a + b) / 2, (c + d) / 2], rtol=1e-5)


def test_area_between_oblique_grids_takes_the_nearest_voxel():
    volume, target = source(22, 23, 16), oblique_target()
    np.testing.assert_array_equal(regrid(volume, target, "area").data, regrid(volume, target, "nearest").data)


@pytest.mark.parametrize("interpolation", SPLINES)
def test_beyond_the_edge_the_edge_is_repeated(interpolation):
    volume = source(8, 8, 8)
    target = finer(volume, (40, 8, 8), (1, 1, 1), (-16, 0, 0))
    sr = regrid(volume, target, interpolation).data
    np.testing.assert_allclose(sr[0], volume.data[0], rtol=1e-4)
    np.testing.assert_allclose(sr[-1], volume.data[-1], rtol=1e-4)
