"""Metrics with reference agree with scikit-image and with their formulas, and refuse what cannot be scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.metrics import metrics, score
from mrsr_bench.benchmarks.metrics.reference import gaussian_matrix
from mrsr_bench.benchmarks.metrics.region import Reference, foreground_slices, reference_of
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.volume import Volume, load
from mrsr_bench.zoo.regrid import regrid

PHILIPS = Path(__file__).parents[2].parent / "shared/data/brain_t1/test/sub-philips_T1w.nii.gz"


def pair(shape=(30, 41, 50), scale=1000.0, seed=0):
    """A smooth bright blob as HR and a blurred, noisy SR of it."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    hr = (radius < 0.9) * (1 + gaussian_filter(rng.standard_normal(shape), 1.5) * 3) * scale
    sr = gaussian_filter(hr, 0.8) + rng.normal(size=shape) * 0.02 * scale
    return sr.astype(np.float32), Volume(hr.astype(np.float32), np.eye(4))


def scikit_ssim(x, y, q):
    return structural_similarity(
        x.astype(np.float64),
        y.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=q,
        full=True,
    )


def subject(scores):
    return {result.metric: result.value for result in scores if result.slice is None}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("shape", [(30, 41, 50), (50, 13, 37), (12, 70, 11)])
def test_scores_of_the_region_are_those_of_scikit_image_and_numpy(shape, scale):
    sr, hr = pair(shape, scale)
    reference = reference_of(hr)
    found = subject(score(sr, reference, ["psnr", "ssim", "nrmse", "rmse"]))
    q, region = reference.range, reference.region
    error = (sr.astype(np.float64) - hr.data)[region]
    assert found["psnr"] == pytest.approx(10 * np.log10(q**2 / np.mean(error**2)), abs=1e-9)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    power = np.mean(hr.data[region].astype(np.float64) ** 2)
    assert found["nrmse"] == pytest.approx(np.sqrt(np.mean(error**2) / power), rel=1e-12)
    assert found["ssim"] == pytest.approx(scikit_ssim(sr, hr.data, q)[1][region].mean(), abs=2e-6)


def test_ssim_stays_exact_where_the_image_is_bright_flat_and_nearly_equal():
    sr, hr = pair(scale=1000.0)
    hr = replace(hr, data=hr.data * np.float32(0.003) + 1000)
    sr = sr * np.float32(0.003) + 1000
    everything = np.ones(sr.shape, dtype=bool)
    reference = Reference(hr, 1000.0, everything, everything, "", ())
    expected = scikit_ssim(sr, hr.data, 1000.0)[1].mean()
    assert subject(score(sr, reference, ["ssim"]))["ssim"] == pytest.approx(expected, abs=1e-5)


def test_the_gaussian_is_that_of_scipy_even_on_an_axis_shorter_than_its_window():
    for size in (1, 2, 4, 7, 40):
        first, matrix = gaussian_matrix(size, 0, size)
        expected = gaussian_filter(np.eye(size), 1.5, truncate=3.5, axes=0)
        assert first == 0
        assert np.allclose(matrix, expected, atol=1e-12)


def test_volume_variants_are_what_scikit_image_returns_for_whole_volumes():
    sr, hr = pair()
    reference = reference_of(hr)
    found = subject(score(sr, reference, ["ssim_volume", "psnr_volume", "nrmse_volume"]))
    error = sr.astype(np.float64) - hr.data
    assert found["ssim_volume"] == pytest.approx(scikit_ssim(sr, hr.data, reference.range)[0], abs=2e-6)
    assert found["psnr_volume"] == pytest.approx(10 * np.log10(reference.range**2 / np.mean(error**2)), abs=1e-9)
    assert found["nrmse_volume"] == pytest.approx(np.linalg.norm(error) / np.linalg.norm(hr.data.astype(float)))


@pytest.mark.parametrize("degraded", [(0, 1), (0, 2), (1, 2)])
def test_slice_variants_are_scikit_image_slice_by_slice_in_the_degraded_plane(degraded):
    sr, hr = pair()
    reference = replace(reference_of(hr), degraded_axes=degraded)
    axis = ({0, 1, 2} - set(degraded)).pop()
    scores = score(sr, reference, ["ssim_slice", "psnr_slice", "nrmse_slice"])
    indices = foreground_slices(reference.mask, axis)
    assert len(indices) > 16
    q, expected = reference.range, {"ssim_slice": [], "psnr_slice": [], "nrmse_slice": []}
    for index in indices:
        x, y = (np.take(data, index, axis).astype(np.float64) for data in (sr, hr.data))
        expected["ssim_slice"].append(scikit_ssim(x, y, q)[0])
        expected["psnr_slice"].append(10 * np.log10(q**2 / np.mean((x - y) ** 2)))
        expected["nrmse_slice"].append(np.linalg.norm(x - y) / np.linalg.norm(y))
    for key, values in expected.items():
        slices = {result.slice: result.value for result in scores if result.metric == key and result.slice is not None}
        assert list(slices) == indices
        assert list(slices.values()) == pytest.approx(values, abs=2e-6)
        assert subject(scores)[key] == pytest.approx(np.mean(values), abs=2e-6)


def test_slices_that_are_not_neighbours_are_scored_alone():
    sr, hr = pair()
    reference = replace(reference_of(hr), degraded_axes=(1, 2))
    mask = reference.mask.copy()
    mask[[12, 13, 17]] = False
    all_slices = score(sr, reference, ["ssim_slice"])
    fewer = score(sr, replace(reference, mask=mask), ["ssim_slice"])
    kept = {result.slice: result.value for result in fewer if result.slice is not None}
    assert not {12, 13, 17} & set(kept)
    # Planes are filtered by twos in float32: on some processors the last bit depends on which two.
    last_bit = float(np.finfo(np.float32).eps)
    assert {r.slice: r.value for r in all_slices if r.slice in kept} == pytest.approx(kept, abs=last_bit)


def test_equal_images_have_no_finite_psnr_and_say_so():
    _, hr = pair()
    keys = ["psnr", "psnr_slice", "psnr_volume", "ssim", "nrmse"]
    scores = {result.metric: result for result in score(hr.data, reference_of(hr), keys) if result.slice is None}
    for key in keys[:3]:
        assert scores[key].value is None
        assert scores[key].reason == "SR equals HR"
    assert scores["ssim"].value == 1
    assert scores["nrmse"].value == 0


def test_scores_come_in_the_order_of_the_keys_as_finite_python_floats():
    sr, hr = pair()
    sr[15, 20, 25] = 3e37
    keys = ["ssim_volume", "rmse", "psnr", "ssim"]
    scores = score(sr, reference_of(hr), keys)
    assert [result.metric for result in scores] == keys
    for result in scores:
        assert result.value is None or (type(result.value) is float and np.isfinite(result.value))
        assert (result.value is None) == bool(result.reason)


def test_sr_that_cannot_be_scored_is_refused_in_one_sentence():
    sr, hr = pair()
    reference = reference_of(hr)
    broken = sr.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(UserError, match="1 NaN or infinite"):
        score(broken, reference, ["psnr"])
    with pytest.raises(UserError, match="compare volumes on one grid"):
        score(sr[1:], reference, ["psnr"])
    with pytest.raises(UserError, match="did you mean psnr"):
        score(sr, reference, ["pnsr"])


def test_volumes_smaller_than_the_window_give_a_reason_where_borders_are_left_out():
    sr, hr = pair((8, 30, 30))
    found = {r.metric: r for r in score(sr, reference_of(hr), ["ssim", "ssim_volume"])}
    assert found["ssim"].value is not None
    assert "smaller than the window" in found["ssim_volume"].reason


def test_data_consistency_is_zero_for_hr_and_for_zero_filling_only():
    _, hr = pair((32, 40, 24))
    degradation = degradations.get("kspace_truncation")
    params = degradation.sample(np.random.default_rng(0), hr, {"factor": [2, 2, 1]})
    lr = degradation.apply(hr, params)
    reference = reference_of(hr, lr)

    def consistency(sr):
        (result,) = score(sr, reference, ["data_consistency"], lr=lr, degradation=degradation, params=params)
        return result.value

    assert consistency(hr.data) < 1e-6
    assert consistency(regrid(lr, hr.grid, "zero_fill").data) < 1e-6
    assert consistency(regrid(lr, hr.grid, "linear").data) > 0.01
    (unknown,) = score(hr.data, reference, ["data_consistency"], lr=lr)
    assert unknown.value is None
    assert "degradation" in unknown.reason


def test_every_metric_says_what_it_is():
    for spec in metrics.all():
        assert spec.direction in ("higher", "lower", "nearest zero")
        assert spec.summary
        assert spec.source
        assert spec.convention
        assert spec.version >= 1
        assert spec.compute.startswith("mrsr_bench.")
    assert {"psnr", "ssim", "nrmse", "niqe", "ma", "pi", "piqe", "rmse", "data_consistency"} <= set(metrics.names())
    assert not any(metrics.get(key).ranked for key in ("niqe", "ma", "pi", "piqe", "data_consistency"))


@pytest.mark.skipif(not PHILIPS.exists(), reason="needs the real MRI in ../shared/data")
def test_a_real_head_has_the_scores_of_an_independent_implementation():
    hr = load(PHILIPS)
    protocol = get_protocol("kspace-2x2x1")
    degradation = degradations.get(protocol.degradation)
    params = degradation.sample(np.random.default_rng(0), hr, protocol.settings)
    lr = degradation.apply(hr, params)
    reference = reference_of(hr, lr)
    for interpolation, psnr in [("nearest", 22.937), ("linear", 26.766), ("zero_fill", 28.749)]:
        found = subject(score(regrid(lr, hr.grid, interpolation).data, reference, ["psnr"]))
        assert found["psnr"] == pytest.approx(psnr, abs=1e-3)
    cubic = subject(score(regrid(lr, hr.grid, "cubic").data, reference, ["psnr", "ssim", "nrmse"]))
    assert cubic == pytest.approx({"psnr": 28.072, "ssim": 0.9070, "nrmse": 0.1022}, abs=1e-3)
