"""Degradations: what a scanner with less time would have given, exactly as the protocol defines it."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.signal import resample

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.regrid import regrid

EYE = np.eye(4)
KSPACE, THICK, THIN = (degradations.get(n) for n in ("kspace_truncation", "thick_slices", "thin_slices"))
BICUBIC, COMPOSED = degradations.get("bicubic_downsample"), degradations.get("composed")


def noise(*shape, seed=3):
    return np.random.default_rng(seed).normal(100, 40, shape).astype(np.float32)


def degrade(degradation, data, affine=EYE, rng_seed=0, **settings):
    """LR, reference HR and the parameters drawn."""
    volume = Volume(data, affine)
    params = degradation.sample(np.random.default_rng(rng_seed), volume, settings)
    return degradation.apply(volume, params), degradation.reference(volume, params), params


def relative(a, b):
    return np.abs(a.astype(float) - b).max() / np.abs(b).max()


@pytest.mark.parametrize("shape", [(16, 18, 20), (15, 17, 9), (33, 8, 7)])
@pytest.mark.parametrize("factor", [(2, 2, 1), (1, 3, 2), (1.5, 1, 1), (2.7, 1.1, 4)])
def test_kspace_equals_scipy_resample(shape, factor):
    data = noise(*shape)
    lr, _, _ = degrade(KSPACE, data, factor=factor)
    expected = data.astype(np.float64)
    for axis, f in enumerate(factor):
        expected = resample(expected, round(shape[axis] / f), axis=axis)
    assert lr.data.shape == expected.shape
    assert relative(lr.data, expected) < 1e-6


def test_kspace_keeps_sample_zero_and_the_field_of_view():
    lr, hr, _ = degrade(KSPACE, noise(15, 16, 9), np.diag([1, 2, 3, 1.0]), factor=(2, 2, 1))
    np.testing.assert_allclose(lr.affine[:3, 3], hr.affine[:3, 3])
    np.testing.assert_allclose(np.array(lr.spacing) * lr.data.shape, np.array(hr.spacing) * hr.data.shape)
    assert [a.kind for a in lr.acquisition] == ["kspace", "kspace", "full"]
    assert lr.acquisition[0].width == pytest.approx(15 / 8)


@pytest.mark.parametrize("size", [16, 17, 30, 31])
@pytest.mark.parametrize("factor", [2, 3, 1.7])
def test_zero_fill_is_scipy_resample_back(size, factor):
    data = noise(size, 5, 4)
    lr, hr, _ = degrade(KSPACE, data, factor=(factor, 1, 1))
    back = regrid(lr, hr.grid, "zero_fill")
    assert relative(back.data, resample(lr.data.astype(np.float64), size, axis=0)) < 2e-6


@pytest.mark.parametrize(
    ("degradation", "settings"),
    [
        (KSPACE, {"factor": [2, 3, 1.5]}),
        (KSPACE, {"factor": [2, 2, 1], "window": "hamming"}),
        (KSPACE, {"factor": [2, 2, 1], "window": "tukey", "window_alpha": 1.0}),
        (KSPACE, {"factor": [2, 2, 1], "phase": 0.0, "snr": 1e9}),
        (THICK, {"factor": [1, 1, 4]}),
        (THICK, {"factor": [1, 2.5, 1], "gap": 0.3}),
        (THICK, {"factor": [3, 1, 1], "profile": "gaussian", "fwhm": 0.7}),
        (THIN, {"factor": [1, 1, 4]}),
        (BICUBIC, {"factor": [4, 4, 1]}),
        (BICUBIC, {"factor": [1, 1.5, 8]}),
        (COMPOSED, {"steps": [{"degradation": "thick_slices"}, {"degradation": "kspace_truncation"}]}),
    ],
)
def test_constants_survive_everything(degradation, settings):
    lr, hr, _ = degrade(degradation, np.full((17, 19, 21), 321.5, np.float32), **settings)
    np.testing.assert_allclose(lr.data, 321.5, rtol=1e-5)
    assert lr.data.size < hr.data.size


@pytest.mark.parametrize("size", [24, 27])
def test_a_plane_wave_inside_the_kept_band_survives_exactly(size):
    position = np.arange(size)
    lr_size = round(size / 2)
    for cycles in range((lr_size - 1) // 2 + 1):
        wave = np.cos(2 * np.pi * cycles * position / size + 0.7)
        lr, hr, _ = degrade(
            KSPACE, np.broadcast_to(wave[:, None, None], (size, 3, 4)).astype(np.float32), factor=(2, 1, 1)
        )
        expected = np.cos(2 * np.pi * cycles * np.arange(lr_size) / lr_size + 0.7)
        np.testing.assert_allclose(lr.data[:, 1, 2], expected, atol=1e-6)
        np.testing.assert_allclose(regrid(lr, hr.grid, "zero_fill").data, hr.data, atol=2e-6)


def test_a_plane_wave_outside_the_kept_band_is_gone():
    wave = np.cos(2 * np.pi * 9 * np.arange(24) / 24)
    lr, _, _ = degrade(KSPACE, np.broadcast_to(wave[:, None, None], (24, 3, 4)).astype(np.float32), factor=(2, 1, 1))
    np.testing.assert_allclose(lr.data, 0, atol=1e-6)


def test_parseval_the_energy_of_the_kept_band_weighted_by_voxel_volume():
    data = noise(20, 18, 15) - 100
    lr, hr, _ = degrade(KSPACE, data, np.diag([1, 1.5, 2, 1.0]), factor=(2, 1, 5 / 3))
    kspace = np.fft.fftn(data.astype(float))
    kept = (np.abs(np.fft.fftfreq(20, 1 / 20))[:, None, None] <= 5) & (np.abs(np.fft.fftfreq(15, 1 / 15)) <= 4)
    nyquist = np.where(np.abs(np.fft.fftfreq(20, 1 / 20)) == 5)[0]  # the even band's unpaired bin: folded, not dropped
    folded = kspace[nyquist].sum(axis=0)[:, np.abs(np.fft.fftfreq(15, 1 / 15)) <= 4]
    kspace[nyquist] = 0
    energy = (np.abs(kspace * kept) ** 2).sum() + (np.abs(folded) ** 2).sum()
    voxel_hr, voxel_lr = np.prod(hr.spacing), np.prod(lr.spacing)
    assert (lr.data.astype(float) ** 2).sum() * voxel_lr == pytest.approx(energy / data.size * voxel_hr, rel=1e-5)


@pytest.mark.parametrize(("window", "alpha"), [("hamming", 0.5), ("tukey", 0.5), ("tukey", 1.0)])
def test_apodisation_weighs_each_frequency_by_its_window(window, alpha):
    from scipy.signal.windows import hamming, tukey

    size, kept = 40, 20
    table = (hamming if window == "hamming" else lambda n, sym: tukey(n, alpha, sym=sym))(kept + 1, sym=True)
    for cycles in range(kept // 2):
        wave = np.cos(2 * np.pi * cycles * np.arange(size) / size)
        data = np.broadcast_to(wave[:, None, None], (size, 2, 2)).astype(np.float32)
        lr, _, _ = degrade(KSPACE, data, factor=(2, 1, 1), window=window, window_alpha=alpha)
        assert lr.data[0, 0, 0] == pytest.approx(table[kept // 2 + cycles], abs=1e-5)


def test_a_tukey_window_without_taper_is_no_window():
    plain, _, _ = degrade(KSPACE, noise(16, 8, 8), factor=(2, 1, 1))
    flat, _, _ = degrade(KSPACE, noise(16, 8, 8), factor=(2, 1, 1), window="tukey", window_alpha=0.0)
    np.testing.assert_allclose(flat.data, plain.data, rtol=1e-5)


def test_noise_has_the_stated_level_and_the_crop_gains_snr():
    data = np.full((50, 50, 40), 1000, np.float32)
    lr, _, params = degrade(KSPACE, data, factor=(2, 2, 1), snr=20)
    sigma = 1000 / 20 * math.sqrt(1 / 4)  # 25 of 50 bins an axis: a quarter of the noise's power
    assert lr.data.std() == pytest.approx(sigma, rel=0.03), params["seed"]
    assert lr.data.mean() == pytest.approx(1000 + sigma**2 / 2000, rel=1e-3)


def test_noise_without_signal_is_rayleigh_and_next_to_signal_rician():
    data = np.zeros((50, 50, 40), np.float32)
    data[:25] = 300
    lr, _, params = degrade(KSPACE, data, factor=(1, 2, 2), snr=10)
    sigma = 300 / 10 * math.sqrt(25 / 50 * 21 / 40)  # an even band of 20 bins holds the noise of both Nyquist bins
    background, signal = lr.data[25:], lr.data[:25]
    assert background.mean() == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.02), params["seed"]
    assert background.std() == pytest.approx(sigma * math.sqrt(2 - math.pi / 2), rel=0.03)
    assert (signal.astype(float) ** 2).mean() == pytest.approx(300**2 + 2 * sigma**2, rel=0.01)


def test_a_smooth_phase_changes_little_but_something():
    data = np.full((32, 32, 32), 100, np.float32)
    lr, _, params = degrade(KSPACE, data, factor=(2, 2, 1), phase=1.0)
    plain, _, _ = degrade(KSPACE, data, factor=(2, 2, 1))
    inside = (slice(5, -5), slice(5, -5), slice(5, -5))
    assert np.abs(lr.data - plain.data).max() > 0, params["seed"]
    assert np.abs(lr.data - plain.data)[inside].mean() < 5


@pytest.mark.parametrize(
    ("degradation", "settings"),
    [
        (KSPACE, {"factor": (2, 2, 1), "phase": 0.8, "snr": 15, "window": "tukey"}),
        (THICK, {"factor": (1, 1, 3), "profile": "gaussian"}),
        (THIN, {"factor": (1, 1, 3)}),
        (BICUBIC, {"factor": (2, 2, 1)}),
        (
            COMPOSED,
            {
                "steps": [
                    {"degradation": "thick_slices", "parameters": {"factor": [1, 1, 3]}},
                    {"degradation": "kspace_truncation", "parameters": {"factor": [2, 1, 1], "snr": 15}},
                ]
            },
        ),
    ],
)
def test_parameters_replayed_from_json_give_the_identical_lr(degradation, settings):
    volume = Volume(noise(12, 14, 15), EYE)
    lr, _, params = degrade(degradation, volume.data, rng_seed=5, **settings)
    replayed = degradation.apply(volume, json.loads(json.dumps(params)))
    np.testing.assert_array_equal(replayed.data, lr.data)
    again, _, same = degrade(degradation, volume.data, rng_seed=5, **settings)
    assert same == params
    np.testing.assert_array_equal(again.data, lr.data)


def test_another_seed_draws_other_noise():
    first, _, _ = degrade(KSPACE, noise(8, 8, 8), rng_seed=1, snr=10)
    second, _, _ = degrade(KSPACE, noise(8, 8, 8), rng_seed=2, snr=10)
    assert not np.array_equal(first.data, second.data)


@pytest.mark.parametrize("s", [2, 3, 4])
def test_a_thick_slice_is_the_mean_of_its_thin_ones(s):
    data = noise(5, 6, 14)
    lr, hr, _ = degrade(THICK, data, np.diag([1, 1, 0.5, 1.0]), factor=(1, 1, s))
    count = 14 // s
    assert hr.data.shape == (5, 6, count * s)
    np.testing.assert_allclose(lr.data, data[..., : count * s].reshape(5, 6, count, s).mean(-1), rtol=1e-6)
    assert lr.affine[2, 3] == pytest.approx(0.5 * (s - 1) / 2)
    assert lr.spacing[2] == pytest.approx(0.5 * s)
    assert lr.acquisition[2].kind == "box"
    assert (lr.acquisition[2].width, lr.acquisition[2].gap) == (pytest.approx(0.5 * s), 0.0)


def test_a_slice_of_two_and_a_half_weighs_by_overlap():
    data = noise(2, 2, 11)
    lr, hr, _ = degrade(THICK, data, factor=(1, 1, 2.5))
    assert (lr.data.shape[2], hr.data.shape[2]) == (4, 10)
    np.testing.assert_allclose(lr.data[..., 0], data[..., :3] @ [0.4, 0.4, 0.2], rtol=1e-6)
    np.testing.assert_allclose(lr.data[..., 1], data[..., 2:5] @ [0.2, 0.4, 0.4], rtol=1e-6)


def test_a_gap_is_not_measured():
    data = noise(2, 2, 8)
    lr, _, _ = degrade(THICK, data, factor=(1, 1, 4), gap=0.5)
    np.testing.assert_allclose(lr.data[..., 1], data[..., 5:7].mean(-1), rtol=1e-6)
    assert (lr.acquisition[2].width, lr.acquisition[2].gap) == (2.0, 2.0)


@pytest.mark.parametrize("fwhm", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("s", [2, 3])
def test_a_gaussian_slice_lies_where_the_box_lies_and_has_the_stated_width(fwhm, s):
    size = 20 * s
    impulses = np.eye(size, dtype=np.float32).reshape(1, size, size)
    lr, _, _ = degrade(THICK, impulses, factor=(1, 1, s), profile="gaussian", fwhm=fwhm)
    profile = lr.data[0, :, 10].astype(float)
    centre = profile @ np.arange(size)
    assert profile.sum() == pytest.approx(1, rel=1e-6)
    assert centre == pytest.approx(10 * s + (s - 1) / 2, abs=1e-6)
    np.testing.assert_allclose(lr.affine[2, 3], (s - 1) / 2)
    if fwhm * s > 1.5:  # well sampled: the width can be measured
        width = math.sqrt(8 * math.log(2) * (profile @ (np.arange(size) - centre) ** 2))
        assert width == pytest.approx(fwhm * s, rel=0.01)
    assert lr.acquisition[2].width == pytest.approx(fwhm * s)


@pytest.mark.parametrize(("size", "s", "count"), [(9, 4, 3), (8, 4, 2), (10, 3, 4), (3, 4, 1)])
def test_thin_slices_are_every_s_th_one(size, s, count):
    data = noise(4, 5, size)
    lr, hr, _ = degrade(THIN, data, np.diag([1, 1, 2, 1.0]), factor=(1, 1, s))
    np.testing.assert_array_equal(lr.data, data[..., ::s])
    assert lr.data.shape[2] == count == math.floor((size - 1) / s) + 1
    assert hr.data.shape[2] == (count - 1) * s + 1
    np.testing.assert_allclose(lr.affine[:3, 3], 0)
    assert (lr.acquisition[2].kind, lr.acquisition[2].width, lr.acquisition[2].gap) == ("sample", 2.0, 2.0 * (s - 1))


@pytest.mark.parametrize("factor", [(4, 4, 1), (1, 8, 2), (3, 1, 2), (1, 1, 4), (1, 2.5, 1.5)])
def test_bicubic_equals_torch_on_every_slice(factor):
    data = noise(16, 24, 12)
    lr, hr, _ = degrade(BICUBIC, data, factor=factor)
    still = factor.index(1)
    for index in range(0, data.shape[still], 5):
        image = torch.from_numpy(np.take(hr.data, index, axis=still))[None, None]
        size = [n for axis, n in enumerate(lr.data.shape) if axis != still]
        expected = torch.nn.functional.interpolate(
            image, size=size, mode="bicubic", antialias=True, align_corners=False
        )
        np.testing.assert_allclose(np.take(lr.data, index, axis=still), expected[0, 0].numpy(), rtol=1e-5, atol=1e-4)


def test_bicubic_moves_the_origin_by_half_of_what_the_voxels_grow():
    lr, hr, _ = degrade(BICUBIC, noise(17, 16, 12), np.diag([0.5, 1, 2, 1.0]), factor=(4, 2, 1))
    assert hr.data.shape == (16, 16, 12)
    np.testing.assert_allclose(lr.affine[:3, 3], [0.5 * 1.5, 0.5, 0])
    np.testing.assert_allclose(lr.spacing, (2, 2, 2))


def test_bicubic_places_a_ramp_where_it_was_whatever_the_factor():
    for factor in (2, 3, 1.3, 2.6):
        ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 4, 4))
        lr, _, _ = degrade(BICUBIC, np.ascontiguousarray(ramp), factor=(factor, 1, 1))
        inner = slice(3, -3)
        places = lr.affine[0, 3] + lr.spacing[0] * np.arange(lr.data.shape[0])
        np.testing.assert_allclose(lr.data[inner, 1, 1], places[inner], atol=0.02)


AXIAL, SAGITTAL, CORONAL = np.diag([0.5, 0.5, 3, 1.0]), np.diag([3, 0.5, 0.5, 1.0]), np.diag([0.5, 3, 0.5, 1.0])
ISOTROPIC, NEARLY = np.eye(4), np.diag([1, 1.333, 1.333, 1.0])
POSTERIOR_SUPERIOR_RIGHT = np.array([[0, 0, 3, 0], [-0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("affine", [AXIAL, ISOTROPIC, NEARLY])
@pytest.mark.parametrize("factor", [(4, 4, 1), (1, 4, 1)])
def test_in_the_finest_plane_of_axial_stacks_and_volumes_the_factor_means_what_it_says(affine, factor):
    data = noise(16, 16, 16)
    turned, _, params = degrade(BICUBIC, data, affine, factor=factor, plane="finest")
    plain, _, _ = degrade(BICUBIC, data, affine, factor=factor)
    np.testing.assert_array_equal(turned.data, plain.data)
    np.testing.assert_array_equal(turned.affine, plain.affine)
    assert params["factor"] == list(factor)


@pytest.mark.parametrize(
    ("affine", "factor", "world", "shape"),
    [
        (SAGITTAL, (4, 4, 1), [1, 4, 4], (16, 4, 4)),
        (SAGITTAL, (1, 4, 1), [1, 4, 1], (16, 4, 16)),
        (CORONAL, (4, 4, 1), [4, 1, 4], (4, 16, 4)),
        (CORONAL, (1, 4, 1), [1, 1, 4], (16, 16, 4)),
        (POSTERIOR_SUPERIOR_RIGHT, (4, 4, 1), [1, 4, 4], (4, 4, 16)),
        (POSTERIOR_SUPERIOR_RIGHT, (1, 4, 1), [1, 4, 1], (4, 16, 16)),
    ],
)
def test_the_finest_plane_of_a_stack_is_its_slices_whatever_their_orientation(affine, factor, world, shape):
    lr, _, params = degrade(BICUBIC, noise(16, 16, 16), affine, factor=factor, plane="finest")
    assert params["factor"] == world
    assert lr.data.shape == shape
    assert json.loads(json.dumps(params)) == params
    again, _, recorded = degrade(BICUBIC, noise(16, 16, 16), affine, **params)
    np.testing.assert_array_equal(again.data, lr.data)
    assert recorded == params


def test_what_cannot_lie_in_the_finest_plane_is_refused():
    for affine in (AXIAL, SAGITTAL):
        with pytest.raises(UserError, match="in the finest plane"):
            degrade(BICUBIC, noise(16, 16, 16), affine, factor=(4, 1, 4), plane="finest")
    with pytest.raises(UserError, match="plane is stated or finest"):
        degrade(BICUBIC, noise(8, 8, 8), plane="coarsest")


REAL = degradations.get("as_acquired")


def test_a_real_scan_is_its_own_lr_and_the_target_covers_the_same_field_of_view():
    data = noise(12, 10, 8)
    lr, target, _ = degrade(REAL, data, ISOTROPIC, factor=(2, 2, 1))
    np.testing.assert_array_equal(lr.data, data)
    np.testing.assert_array_equal(lr.affine, ISOTROPIC)
    assert target.data.shape == (24, 20, 8)
    np.testing.assert_allclose(target.spacing, (0.5, 0.5, 1))
    np.testing.assert_allclose(target.data, regrid(lr, target.grid, "cubic").data)


@pytest.mark.parametrize(
    ("affine", "shape", "thick"),
    [(AXIAL, (8, 8, 32), 2), (SAGITTAL, (32, 8, 8), 0), (CORONAL, (8, 32, 8), 1), (ISOTROPIC, (8, 8, 32), None)],
)
def test_through_the_slices_means_the_slice_axis_of_a_stack_and_s_of_a_volume(affine, shape, thick):
    lr, target, params = degrade(REAL, noise(8, 8, 8), affine, factor=(1, 1, 4), direction="through")
    assert target.data.shape == shape
    assert [axis for axis in range(3) if lr.acquisition[axis].kind == "box"] == ([] if thick is None else [thick])
    again, _, recorded = degrade(REAL, noise(8, 8, 8), affine, **params)
    assert recorded == params
    np.testing.assert_array_equal(again.data, lr.data)


def test_a_real_scan_keeps_what_is_known_of_its_acquisition():
    thick, _, _ = degrade(THIN, noise(8, 8, 16), factor=[1, 1, 4])
    params = REAL.sample(np.random.default_rng(0), thick, {"factor": [1, 1, 4]})
    assert REAL.apply(thick, params).acquisition == thick.acquisition


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"factor": (1, 1, 1)}, "nothing to upscale"),
        ({"direction": "up"}, "direction is stated or through"),
        ({"factor": (2, 2, 1), "direction": "through"}, "1 x 1 x f"),
        ({"factor": (0.5, 1, 1)}, "three numbers from 1"),
    ],
)
def test_an_impossible_target_is_refused(settings, expected):
    with pytest.raises(UserError, match=expected):
        degrade(REAL, noise(8, 8, 8), **settings)


def steps(*pairs):
    return {"steps": [{"degradation": name, "parameters": settings} for name, settings in pairs]}


def test_a_composition_is_its_steps_in_order():
    data = noise(12, 13, 14)
    settings = steps(("thick_slices", {"factor": [1, 1, 4]}), ("kspace_truncation", {"factor": [2, 2, 1]}))
    lr, hr, _ = degrade(COMPOSED, data, np.diag([1, 2, 0.5, 1.0]), **settings)
    thick, reference, _ = degrade(THICK, data, np.diag([1, 2, 0.5, 1.0]), factor=[1, 1, 4])
    both, _, _ = degrade(KSPACE, thick.data, thick.affine, factor=[2, 2, 1])
    np.testing.assert_array_equal(lr.data, both.data)
    assert lr.grid.same_as(both.grid)
    assert hr.grid.same_as(reference.grid)
    assert [a.kind for a in lr.acquisition] == ["kspace", "kspace", "box"]


def test_a_composition_compares_on_the_field_of_view_that_all_crops_leave():
    settings = steps(("thick_slices", {"factor": [1, 1, 2]}), ("thick_slices", {"factor": [1, 1, 3]}))
    lr, hr, _ = degrade(COMPOSED, noise(4, 4, 16), **settings)
    assert (lr.data.shape[2], hr.data.shape[2]) == (2, 12)  # 8 pairs, of which 2 x 3 are used
    assert lr.affine[2, 3] == pytest.approx(2.5)
    settings = steps(("kspace_truncation", {"factor": [1, 1, 2]}), ("thin_slices", {"factor": [1, 1, 3]}))
    lr, hr, _ = degrade(COMPOSED, noise(4, 4, 16), **settings)
    assert lr.data.shape[2] == 3  # LR slices 0, 3, 6 of 8: HR 0, 6, 12; the last of them ends half an LR slice later
    assert hr.data.shape[2] == 14


def test_thin_slices_of_thick_ones_are_thick_with_a_gap():
    settings = steps(("thick_slices", {"factor": [1, 1, 2]}), ("thin_slices", {"factor": [1, 1, 3]}))
    lr, _, _ = degrade(COMPOSED, noise(4, 4, 24), **settings)
    assert (lr.acquisition[2].kind, lr.acquisition[2].width, lr.acquisition[2].gap) == ("box", 2.0, 4.0)


@pytest.mark.parametrize(
    ("degradation", "settings", "said"),
    [
        (KSPACE, {"factor": [2, 2]}, "three numbers"),
        (KSPACE, {"factor": "2x2x1"}, "three numbers"),
        (KSPACE, {"factor": [0.5, 1, 1]}, "from 1 to 64"),
        (KSPACE, {"factor": [float("nan"), 1, 1]}, "from 1 to 64"),
        (KSPACE, {"factr": [2, 2, 1]}, "no parameter 'factr'"),
        (KSPACE, {"window": "hann"}, "tukey or hamming"),
        (KSPACE, {"window_alpha": 2}, "window_alpha is a number from 0 to 1"),
        (KSPACE, {"snr": 0}, "snr is a number"),
        (KSPACE, {"snr": "high"}, "snr is a number"),
        (KSPACE, {"phase": None}, "phase is a number"),
        (KSPACE, {"seed": 1.5}, "seed is a whole number"),
        (THICK, {"factor": [2, 2, 1]}, "exactly one axis"),
        (THICK, {"factor": [1, 1, 1]}, "exactly one axis"),
        (THICK, {"profile": "sinc"}, "box or gaussian"),
        (THICK, {"gap": 1}, "gap is a number"),
        (THICK, {"fwhm": "wide"}, "fwhm is a number"),
        (THIN, {"factor": [1, 1, 2.5]}, "must be whole"),
        (BICUBIC, {"factor": [2, 2, 2]}, "one of the three factors must be 1"),
        (COMPOSED, {}, "one at least"),
        (COMPOSED, {"steps": ["thick_slices"]}, "got 'thick_slices' in it"),
        (COMPOSED, {"steps": [{"degradation": "thik_slices"}]}, "did you mean"),
        (COMPOSED, steps(("thick_slices", {"gap": -1})), "gap is a number"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(degradation, settings, said):
    with pytest.raises(UserError, match=said) as raised:
        degrade(degradation, noise(8, 8, 8), **settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 8), (8, 8, 1), (3, 2, 5), (1, 1, 1)])
@pytest.mark.parametrize("degradation", degradations.all(), ids=lambda d: d.name)
def test_tiny_volumes_are_degraded_or_refused_in_one_sentence(degradation, shape):
    settings = steps(("thick_slices", {}), ("kspace_truncation", {})) if degradation is COMPOSED else {}
    refused = ""
    try:
        lr, hr, _ = degrade(degradation, noise(*shape), **settings)
        assert min(lr.data.shape) >= 1
        assert np.isfinite(lr.data).all()
        assert np.isfinite(hr.data).all()
    except UserError as error:
        refused = str(error)
    assert "\n" not in refused
    assert not refused or "too small" in refused or "too few" in refused


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0])
def test_noise_on_a_constant_volume_is_finite(value):
    lr, _, _ = degrade(KSPACE, np.full((8, 8, 8), value, np.float32), snr=10)
    assert np.isfinite(lr.data).all()


def test_hr_is_never_written_to():
    for degradation in degradations.all():
        settings = steps(("thin_slices", {})) if degradation is COMPOSED else {}
        data = noise(8, 8, 8)
        data.flags.writeable = False
        lr, _, _ = degrade(degradation, data, **settings)
        assert lr.data.flags.writeable
