"""Every convention against a literal computation with scikit-image or numpy, and the command that prints them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from skimage.color import rgb2ycbcr
from skimage.metrics import (
    mean_squared_error,
    normalized_root_mse,
    peak_signal_noise_ratio,
    structural_similarity,
)

from mrsr_bench import UserError, cli
from mrsr_bench.benchmarks.conventions import CONVENTIONS, chosen, score_conventions
from mrsr_bench.benchmarks.metrics import no_reference, score
from mrsr_bench.benchmarks.metrics.region import reference_of
from mrsr_bench.volume import Volume, save

SHAPE = (56, 60, 58)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    hr = (x**2 + y**2 + z**2 < 0.8) * (800 + 200 * np.sin(8 * x) * np.cos(7 * y)) + rng.normal(0, 15, SHAPE)
    sr = 0.97 * hr + rng.normal(0, 30, SHAPE)
    return Volume(sr.astype(np.float32), np.eye(4)), Volume(hr.astype(np.float32), np.eye(4))


@pytest.fixture(scope="module")
def found(pair):
    return {row["name"]: row["value"] for row in score_conventions(*pair)["conventions"]}


@pytest.fixture(scope="module")
def arrays(pair):
    return tuple(volume.data.astype(np.float64) for volume in pair)


def slices_of(arrays):
    return list(zip(*arrays, strict=True))  # the largest plane, 60 x 58, is stacked along the first axis


def unit(a):
    return (a - a.min()) / (a.max() - a.min())


def eight_bit(arrays):
    top = arrays[1].max()
    return [tuple(np.round(np.clip(a / top, 0, 1) * 255) for a in both) for both in slices_of(arrays)]


def shaved(image):
    return image[4:-4, 4:-4]


def luminance(arrays):
    rgb = ([np.stack([shaved(a).astype(np.uint8)] * 3, axis=-1) for a in both] for both in eight_bit(arrays))
    return [tuple(np.round(rgb2ycbcr(image)[..., 0]) for image in both) for both in rgb]


def psnr(sr, hr, peak):
    return peak_signal_noise_ratio(hr, sr, data_range=peak)


def ssim(sr, hr, peak, **keywords):
    return structural_similarity(hr, sr, data_range=peak, **keywords)


GAUSS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
CORE = (slice(24, -24),) * 3


def clipped(arrays):
    sr, hr = arrays
    top = np.percentile(hr[hr > hr.mean()], 99.9)
    return np.clip(sr / top, 0, 1), np.clip(hr / top, 0, 1)


EXPECTED = {
    "psnr/fixed-4095": lambda a: psnr(a[0] / 4095, a[1] / 4095, 1),
    "psnr/hr-max": lambda a: psnr(*a, a[1].max()),
    "psnr/hr-max-min": lambda a: psnr(*a, a[1].max() - a[1].min()),
    "psnr/prediction-max": lambda a: np.mean([psnr(s, h, s.max()) for s, h in slices_of(a)]),
    "psnr/slice-max": lambda a: np.mean([psnr(s, h, h.max()) for s, h in slices_of(a)]),
    "psnr/8-bit": lambda a: np.mean([psnr(s, h, 255) for s, h in eight_bit(a)]),
    "psnr/8-bit-shaved": lambda a: np.mean([psnr(shaved(s), shaved(h), 255) for s, h in eight_bit(a)]),
    "psnr/superformer": lambda a: psnr(*(np.clip(x[CORE] / 4095, 0, 1) for x in a), 1),
    "psnr/border-max": lambda a: psnr(a[0][CORE], a[1][CORE], a[1].max()),
    "psnr/percentile-clipped": lambda a: psnr(*clipped(a), 1),
    "psnr/own-min-max": lambda a: psnr(unit(a[0]), unit(a[1]), 1),
    "psnr/slice-min-max": lambda a: np.mean([psnr(2 * unit(s) - 1, 2 * unit(h) - 1, 2) for s, h in slices_of(a)]),
    "psnr/mdcsrn-port": lambda a: psnr(a[0] / 4095, a[1] / 4095, 2),
    "ssim/fastmri": lambda a: np.mean([ssim(s, h, a[1].max()) for s, h in slices_of(a)]),
    "ssim/slice-max": lambda a: np.mean([ssim(s, h, h.max()) for s, h in slices_of(a)]),
    "ssim/prediction-max": lambda a: np.mean([ssim(s, h, s.max()) for s, h in slices_of(a)]),
    "ssim/hr-max-min": lambda a: ssim(*a, a[1].max() - a[1].min()),
    "ssim/gaussian-max": lambda a: ssim(*a, a[1].max(), **GAUSS),
    "ssim/superformer": lambda a: ssim(a[0][CORE], a[1][CORE], 4095),
    "ssim/8-bit-shaved": lambda a: np.mean([ssim(shaved(s), shaved(h), 255, **GAUSS) for s, h in eight_bit(a)]),
    "ssim/slice-min-max": lambda a: np.mean([ssim(2 * unit(s) - 1, 2 * unit(h) - 1, 2) for s, h in slices_of(a)]),
    "ssim/mdcsrn-port": lambda a: ssim(a[0] / 4095, a[1] / 4095, 2),
    "nrmse/euclidean": lambda a: normalized_root_mse(a[1], a[0]),
    "nrmse/min-max": lambda a: normalized_root_mse(a[1], a[0], normalization="min-max"),
    "nrmse/mean": lambda a: normalized_root_mse(a[1], a[0], normalization="mean"),
    "nmse/fastmri": lambda a: np.linalg.norm(a[1] - a[0]) ** 2 / np.linalg.norm(a[1]) ** 2,
    "rmse/pirm": lambda a: math.sqrt(np.mean([mean_squared_error(h, s) for s, h in luminance(a)])),
}
JUDGED = {"niqe/pirm", "pi/pirm"}
OF_THE_TABLES = {"psnr/protocol": "psnr", "ssim/protocol": "ssim", "nrmse/protocol": "nrmse"}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_convention_is_what_its_code_does(name, found, arrays):
    assert found[name] == pytest.approx(float(EXPECTED[name](arrays)), rel=2e-5)


def test_slices_as_channels_are_slices_one_by_one(found, arrays):
    stack = [np.moveaxis(a, 0, -1) for a in arrays]
    assert ssim(*stack, arrays[1].max(), channel_axis=-1) == pytest.approx(found["ssim/fastmri"], rel=2e-5)


def test_the_masked_one_takes_the_mask_of_hr(found, pair, arrays):
    mask = reference_of(pair[1]).mask
    assert found["psnr/masked-max"] == pytest.approx(psnr(arrays[0][mask], arrays[1][mask], arrays[1].max()))


def test_the_protocols_conventions_are_the_metrics_of_the_tables(found, pair):
    scores = {s.metric: s.value for s in score(pair[0].data, reference_of(pair[1]), list(OF_THE_TABLES.values()))}
    for name, metric in OF_THE_TABLES.items():
        assert found[name] == scores[metric]


def test_every_convention_is_checked_here():
    assert {c.name for c in CONVENTIONS} == {*EXPECTED, *OF_THE_TABLES, *JUDGED, "psnr/masked-max"}


def test_the_perceptual_index_is_of_the_means_of_shaved_luminance(pair, arrays, monkeypatch):
    seen = {}

    def measured(key, slices, parameters=None):
        seen[key] = slices
        return [float(i % 7) + (key == "ma") for i in range(len(slices))]

    monkeypatch.setattr(no_reference, "measured_slices", measured)
    rows = {row["name"]: row for row in score_conventions(*pair, "pi/pirm,niqe/pirm")["conventions"]}
    niqe = np.mean([i % 7 for i in range(len(seen["niqe"]))])
    assert rows["niqe/pirm"]["value"] == pytest.approx(niqe)
    assert rows["pi/pirm"]["value"] == pytest.approx(((10 - (niqe + 1)) + niqe) / 2)
    expected = [sr for sr, _ in luminance(arrays)]
    for key in ("niqe", "ma"):
        np.testing.assert_array_equal(np.stack(seen[key]), np.stack(expected))


def test_without_parameters_the_perceptual_index_says_why(pair, monkeypatch):
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    (row,) = score_conventions(*pair, "pi/pirm")["conventions"]
    assert row["value"] is None
    assert "are not here" in row["reason"]


def test_one_prediction_spreads_further_than_claimed_gains(pair):
    assert score_conventions(*pair)["spread"]["psnr"]["spread"] > 5


def test_names_choose_one_a_family_or_all():
    assert [c.name for c in chosen("psnr/hr-max")] == ["psnr/hr-max"]
    assert {c.metric for c in chosen("ssim")} == {"ssim"}
    assert chosen("all") == list(CONVENTIONS)
    with pytest.raises(UserError, match="did you mean psnr/hr-max"):
        chosen("psnr/hrmax")


def test_equal_images_have_no_psnr_and_say_so(pair):
    row = score_conventions(pair[1], pair[1], "psnr/hr-max")["conventions"][0]
    assert row["value"] is None
    assert row["reason"]


def test_a_small_volume_has_no_border_to_cut():
    data = np.random.default_rng(1).normal(100, 10, (8, 9, 10)).astype(np.float32)
    rows = score_conventions(Volume(data * 0.9, np.eye(4)), Volume(data, np.eye(4)), "ssim/superformer,ssim/hr-max-min")
    assert rows["conventions"][0]["value"] is None
    assert rows["conventions"][1]["value"] is not None


def test_the_command_prints_all_of_them(pair, tmp_path, capsys):
    sr, hr = save(pair[0], tmp_path / "sr.nii"), save(pair[1], tmp_path / "hr.nii")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["score", str(sr), str(hr), "--convention", "psnr", "--json"])
    assert stopped.value.code == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["conventions"]]
    assert names == [c.name for c in CONVENTIONS if c.metric == "psnr"]


@pytest.mark.parametrize("words", [["--convention", "nonsense"], ["--convention", "all", "--protocol", "kspace-2x2x1"]])
def test_mistakes_are_one_sentence(words, pair, tmp_path, capsys):
    sr, hr = save(pair[0], tmp_path / "sr.nii"), save(pair[1], tmp_path / "hr.nii")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["score", str(sr), str(hr), *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_images_of_two_grids_are_refused(pair):
    other = Volume(pair[0].data[:-1], np.eye(4))
    with pytest.raises(UserError, match="one grid"):
        score_conventions(other, pair[1])
