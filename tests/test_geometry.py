"""A point of the object stays at its point of the world, whatever the axes of the array do.

The fiducial is a Gaussian blob around a known world point; its centroid is taken in world coordinates.
"""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import SimpleITK

from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.volume import Volume, save
from mrsr_bench.zoo.regrid import regrid

FIDUCIAL = np.array([3.3, -7.4, 11.6])
SPACING = np.array([1.0, 1.1, 1.3])
SIGMA_MM = 4.6
TURNED = nibabel.eulerangles.euler2mat(0.35, -0.2, 0.45)
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3)]

KSPACE, THICK, THIN, BICUBIC, COMPOSED = (
    "kspace_truncation",
    "thick_slices",
    "thin_slices",
    "bicubic_downsample",
    "composed",
)
THICK_AND_FAST = {
    "steps": [
        {"degradation": THICK, "parameters": {"factor": [1, 1, 3]}},
        {"degradation": KSPACE, "parameters": {"factor": [2, 1.5, 1]}},
    ]
}
# Nearest neighbours round a tie to one side and repeat unevenly at fractional factors, so they fit few of these.
CASES = [
    (KSPACE, {"factor": [2, 2, 1]}, ("linear", "cubic", "lanczos", "zero_fill")),
    (KSPACE, {"factor": [3, 1, 2.3]}, ("linear", "cubic", "lanczos", "zero_fill")),
    (KSPACE, {"factor": [1, 3, 1]}, ("nearest",)),
    (KSPACE, {"factor": [2, 1, 2], "window": "hamming", "phase": 0.3}, ("cubic", "zero_fill")),
    (THICK, {"factor": [1, 1, 4]}, ("nearest", "linear", "cubic", "lanczos")),
    (THICK, {"factor": [1, 2.5, 1], "gap": 0.2}, ("linear", "cubic", "lanczos")),
    (THICK, {"factor": [3, 1, 1], "profile": "gaussian", "fwhm": 1.2}, ("nearest", "linear", "cubic", "lanczos")),
    (THIN, {"factor": [1, 1, 4]}, ("linear", "cubic", "lanczos")),
    (THIN, {"factor": [1, 3, 1]}, ("nearest", "linear", "cubic", "lanczos")),
    (BICUBIC, {"factor": [4, 3, 1]}, ("nearest", "linear", "cubic", "lanczos")),
    (BICUBIC, {"factor": [1, 1.7, 2]}, ("linear", "cubic", "lanczos")),
    (COMPOSED, THICK_AND_FAST, ("linear", "cubic", "lanczos")),
]


def head_with_fiducial(axes, signs, rotation):
    """A blob at the fiducial on a grid whose array axes run along the (signed, turned) world axes; sizes partly odd."""
    world_shape = np.array([43, 48, 45])
    shape = tuple(int(n) for n in world_shape[list(axes)])
    matrix = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        matrix[world, axis] = sign * SPACING[world]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ matrix
    centre = np.array([(n - 1) / 2 for n in shape]) + np.array([0.3, -0.6, 0.8])
    affine[:3, 3] = FIDUCIAL - affine[:3, :3] @ centre
    apart = [(np.arange(n) - c) * s for n, c, s in zip(shape, centre, SPACING[list(axes)], strict=True)]  # mm
    x, y, z = (np.exp(-(d**2) / (2 * SIGMA_MM**2)).astype(np.float32) for d in apart)
    return Volume(1000 * np.einsum("x,y,z->xyz", x, y, z), affine)


def centroid(volume):
    """World coordinates: the mean place of the voxels, weighted by intensity."""
    along = [volume.data.sum(axis=tuple({0, 1, 2} - {axis}), dtype=float) for axis in range(3)]
    voxel = [marginal @ np.arange(len(marginal)) / marginal.sum() for marginal in along]
    return nibabel.affines.apply_affine(volume.affine, voxel)


def voxels_off(volume):
    return np.linalg.norm(centroid(volume) - FIDUCIAL) / SPACING.min()


def degraded(name, settings, volume):
    degradation = degradations.get(name)
    params = degradation.sample(np.random.default_rng(0), volume, settings)
    return degradation.apply(volume, params), degradation.reference(volume, params)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("rotation", [np.eye(3), TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize(("name", "settings", "interpolations"), CASES)
def test_a_fiducial_stays_through_degrade_and_upscale_in_all_orientations(name, settings, interpolations, rotation):
    for index, (axes, signs) in enumerate(ORIENTATIONS):
        volume = head_with_fiducial(axes, signs, rotation)
        lr, hr = degraded(name, settings, volume)
        assert voxels_off(hr) < 0.01
        assert voxels_off(lr) < 0.01, f"degraded, axes {axes}, signs {signs}"
        interpolation = interpolations[index % len(interpolations)]
        sr = regrid(lr, hr.grid, interpolation)
        assert sr.grid.same_as(hr.grid, 1e-9)
        assert voxels_off(sr) < 0.01, f"{interpolation}, axes {axes}, signs {signs}"


@pytest.mark.parametrize(("name", "settings", "interpolations"), CASES)
def test_a_fiducial_stays_with_every_interpolation_that_suits(name, settings, interpolations):
    lr, hr = degraded(name, settings, head_with_fiducial((2, 0, 1), (-1, 1, -1), TURNED))
    for interpolation in interpolations:
        assert voxels_off(regrid(lr, hr.grid, interpolation)) < 0.01, interpolation


@pytest.mark.parametrize(("name", "settings", "_interpolations"), CASES)
def test_another_program_sees_lr_and_sr_in_the_same_place(name, settings, _interpolations, tmp_path):
    lr, hr = degraded(name, settings, head_with_fiducial((1, 2, 0), (1, -1, -1), TURNED))
    for volume in (lr, regrid(lr, hr.grid, "cubic")):
        image = SimpleITK.ReadImage(str(save(volume, tmp_path / "seen.nii.gz")))
        weights = SimpleITK.GetArrayFromImage(image).astype(float)  # z, y, x
        index = [np.tensordot(weights, n, 3) / weights.sum() for n in np.indices(weights.shape)]
        place = np.array(image.TransformContinuousIndexToPhysicalPoint(index[::-1])) * [-1, -1, 1]
        assert np.linalg.norm(place - FIDUCIAL) / SPACING.min() < 0.01


@pytest.mark.parametrize(("name", "settings", "_interpolations"), CASES)
def test_world_axes_are_degraded_not_array_axes(name, settings, _interpolations):
    """The same object in any orientation gives the same LR voxels, permuted and flipped with the array."""
    straight, _ = degraded(name, settings, head_with_fiducial((0, 1, 2), (1, 1, 1), np.eye(3)))
    for axes in permutations(range(3)):
        lr, _ = degraded(name, settings, head_with_fiducial(axes, (1, 1, 1), np.eye(3)))
        assert lr.data.shape == tuple(straight.data.shape[axis] for axis in axes)
        np.testing.assert_allclose(sorted(lr.spacing), sorted(straight.spacing), rtol=1e-9)


def test_an_upscaled_oblique_volume_lands_on_any_other_grid():
    volume = head_with_fiducial((2, 1, 0), (1, -1, 1), TURNED)
    lr, _ = degraded(THICK, {"factor": [1, 1, 3]}, volume)
    other = head_with_fiducial((0, 1, 2), (1, 1, 1), np.eye(3))
    for interpolation in ("nearest", "linear", "cubic"):
        allowed = 0.1 if interpolation == "nearest" else 0.01  # each nearest neighbour is up to half an LR voxel off
        assert voxels_off(regrid(lr, other.grid, interpolation)) < allowed
