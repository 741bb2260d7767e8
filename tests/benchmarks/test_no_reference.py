"""No-reference metrics: official values where the parameters are to be had, a reason where not, nothing on stdout."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from mrsr_bench.benchmarks.metrics import no_reference, score
from mrsr_bench.benchmarks.metrics.no_reference import (
    FEW_BLOCKS,
    Unavailable,
    niqe_measure,
    parameter_file,
    piqe_measure,
)
from mrsr_bench.benchmarks.metrics.region import Reference
from mrsr_bench.volume import Volume

WEIGHTS = Path(__file__).parents[2].parent / "shared/weights"
CALIBRATION = WEIGHTS / "iqa_calibration"
IMAGES = ("I03", "I04", "I06", "I08", "I19")

needs_pyiqa = pytest.mark.skipif(importlib.util.find_spec("pyiqa") is None, reason="needs the extra perceptual")
needs_calibration = pytest.mark.skipif(not CALIBRATION.exists(), reason="needs ../shared/weights/iqa_calibration")


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch, tmp_path):
    """Empty torch hub and store, no memory of failures, online as far as the settings go, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("MRSR_BENCH_OFFLINE", raising=False)
    monkeypatch.setattr(no_reference, "_failed_downloads", {})
    attempts = []

    def unreachable(url, name):
        attempts.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr(no_reference, "_download", unreachable)
    return attempts


def official(key):
    with (CALIBRATION / "results_official.csv").open() as file:
        rows = {row["Method"]: row for row in csv.DictReader(file)}
    return {name: float(rows[key][f"{name}.bmp"]) for name in IMAGES}


def grey(name):
    """Luma as MATLAB's rgb2gray makes it, in whole numbers."""
    from PIL import Image

    rgb = np.asarray(Image.open(CALIBRATION / "images" / f"{name}.bmp").convert("RGB"), dtype=np.float64)
    return np.floor(rgb @ [0.298936021293775, 0.587043074451121, 0.114020904255103] + 0.5)


# pyiqa's filter is float32 and its resize mirrors the border elsewhere than MATLAB's. On textured images that is
# below 1e-3. Flat grey areas amplify it, because there NIQE fits its model to rounding noise: 2 % of I08 and 32 % of
# I19 are flat at many levels, of which only the most frequent can be taken out (raw pyiqa: 5 % off on I19).
NIQE_TOLERANCE = {"I03": 1e-3, "I04": 1e-3, "I06": 1e-3, "I08": 1e-2, "I19": 4e-2}


@needs_pyiqa
@needs_calibration
@pytest.mark.parametrize("name", IMAGES)
def test_niqe_is_the_official_one(name):
    measure = niqe_measure(WEIGHTS / "niqe_modelparameters.mat")
    assert measure(grey(name)) == pytest.approx(official("niqe")[name], rel=NIQE_TOLERANCE[name])


@needs_pyiqa
@needs_calibration
@pytest.mark.parametrize("name", IMAGES)
def test_piqe_is_the_official_one(name):
    # The official values are printed with two decimals; the images' size is a multiple of 16, so nothing is padded.
    assert piqe_measure()(grey(name)) == pytest.approx(official("piqe")[name], abs=0.006)


def slices(shape=(210, 200), count=3, seed=0):
    """Textured discs on a background of zero, 0 to 255."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.9
    noise = [gaussian_filter(rng.standard_normal(shape), sigma) for sigma in (0.7, 1, 1.5)]
    return np.stack([inside * np.clip(120 + 400 * noise[i % 3], 1, 255) for i in range(count)])


def reference(shape, range_=255.0, degraded=(1, 2)):
    """A reference whose foreground is everything; slices lie along axis 0."""
    everything = np.ones(shape, dtype=bool)
    hr = Volume(np.zeros(shape, dtype=np.float32), np.eye(4))
    return Reference(hr, range_, everything, everything, "", degraded)


@pytest.fixture
def niqe_file(tmp_path):
    rng = np.random.default_rng(3)
    file = tmp_path / "niqe.mat"
    root = rng.standard_normal((36, 36))
    savemat(file, {"mu_prisparam": rng.random((1, 36)), "cov_prisparam": root @ root.T})
    return file


@pytest.fixture
def ma_file(tmp_path):
    """A model of the shape of Ma et al.'s: three forests of two stumps each, which look at two features."""
    rng = np.random.default_rng(4)

    def forest(features):
        tree = np.ones((3, 2), dtype=int)
        return {
            "left": tree * [[2], [0], [0]],
            "right": tree * [[3], [0], [0]],
            "status": tree,
            "depth": tree,
            "threshold": np.repeat(rng.random((1, 2)), 3, axis=0),
            "prediction": rng.random((3, 2)) * 10,
            "attribute": np.repeat(rng.integers(1, features, (1, 2)), 3, axis=0),
        }

    cells = np.empty((1, 3), dtype=object)
    for at, features in enumerate((18, 39, 75)):
        cells[0, at] = forest(features)
    file = tmp_path / "ma.mat"
    savemat(file, {"model": {"linear": rng.random((4, 1)), "rf": cells}})
    return file


def subject(scores):
    return {result.metric: result for result in scores if result.slice is None}


@needs_pyiqa
def test_a_subject_scores_the_mean_of_its_slices_and_nothing_is_printed(niqe_file, ma_file, capsys):
    volume = slices((193, 192), count=2).astype(np.float32) * 4
    keys = ["pi", "niqe", "ma", "piqe"]
    scores = score(volume, reference(volume.shape, 1020.0), keys, parameters={"niqe": niqe_file, "ma": ma_file})
    assert capsys.readouterr().out == ""
    assert list(subject(scores)) == keys
    by_slice = {key: [r.value for r in scores if r.metric == key and r.slice is not None] for key in keys}
    for key, result in subject(scores).items():
        assert len(by_slice[key]) == 2
        assert result.value == pytest.approx(np.mean(by_slice[key]))
    for pi, ma, niqe in zip(by_slice["pi"], by_slice["ma"], by_slice["niqe"], strict=True):
        assert pi == pytest.approx((10 - ma + niqe) / 2)
    assert subject(scores)["niqe"].mark == FEW_BLOCKS
    assert subject(scores)["piqe"].mark is None


@needs_pyiqa
def test_a_slice_scores_the_same_alone_and_among_others(niqe_file):
    volume = slices().astype(np.float32)
    many = score(volume, reference(volume.shape), ["niqe", "piqe"], parameters={"niqe": niqe_file})
    last = volume[2:]
    alone = score(last, reference(last.shape), ["niqe", "piqe"], parameters={"niqe": niqe_file})
    assert [r.value for r in many if r.slice == 2] == [r.value for r in alone if r.slice == 0]


@needs_pyiqa
def test_intensities_are_clipped_to_the_range_of_hr_but_not_rounded(niqe_file):
    image = slices(count=1).astype(np.float32)

    def niqe(volume):
        return subject(score(volume, reference(volume.shape), ["niqe"], parameters={"niqe": niqe_file}))["niqe"].value

    outside = image.copy()
    outside[image == 255] = 9000
    outside[image == 0] = -70
    assert niqe(outside) == niqe(image)
    assert niqe(image) == pytest.approx(niqe_measure(niqe_file)(image[0].astype(np.float64)))
    assert niqe(image) != pytest.approx(niqe(image.round()), rel=1e-6)


@needs_pyiqa
def test_a_constant_background_does_not_change_niqe(niqe_file):
    image = slices(count=1)[0] * 0.8
    measure = niqe_measure(niqe_file)
    assert measure(image + 40.7) == pytest.approx(measure(image), rel=1e-6)


@needs_pyiqa
def test_ma_of_a_grey_slice_is_pyiqas_for_three_equal_channels(ma_file):
    import torch
    from pyiqa.archs.nrqm_arch import NRQM

    image = slices((90, 96), count=1)[0].round()
    expected = NRQM(pretrained_model_path=str(ma_file))(torch.from_numpy(image / 255)[None, None].repeat(1, 3, 1, 1))
    assert no_reference.ma_measure(ma_file)(image) == pytest.approx(float(expected), rel=1e-6)


@needs_pyiqa
def test_piqe_pads_to_the_next_multiple_of_16_by_mirroring():
    image = slices((201, 215), count=1)[0]
    padded = np.pad(image, [(0, 7), (0, 9)], mode="symmetric")
    assert padded.shape == (208, 224)
    assert piqe_measure()(image) == piqe_measure()(padded)


@needs_pyiqa
def test_a_blank_slice_has_no_value_and_the_mean_is_marked():
    volume = slices().astype(np.float32)
    volume[1] = 0
    scores = score(volume, reference(volume.shape), ["piqe"])
    of_slices = [result for result in scores if result.slice is not None]
    assert of_slices[1].value is None
    assert of_slices[1].reason
    assert scores[0].value == pytest.approx((of_slices[0].value + of_slices[2].value) / 2)
    assert scores[0].mark.startswith("1 of 3 slices")


def stored(name, content=b"parameters"):
    file = no_reference.store() / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_another_file_under_the_name_of_a_published_one_is_refused():
    stored("niqe_modelparameters.mat")
    with pytest.raises(Unavailable, match=r"not the published file .*expected fa2aa4d12dd9595c.*delete it"):
        parameter_file("niqe")


@needs_calibration
def test_the_published_niqe_model_is_taken_and_needs_no_lock():
    file = stored("niqe_modelparameters.mat", (WEIGHTS / "niqe_modelparameters.mat").read_bytes())
    assert parameter_file("niqe") == file
    assert not (no_reference.store() / no_reference.LOCK).exists()


def test_a_file_of_unknown_digest_is_held_to_that_of_its_first_use():
    file = stored("NRQM_model.mat")
    assert parameter_file("ma") == parameter_file("ma") == file
    stored("NRQM_model.mat", b"others")
    with pytest.raises(Unavailable, match=r"NRQM_model.mat has changed since its first use here"):
        parameter_file("ma")
    (no_reference.store() / no_reference.LOCK).unlink()
    assert parameter_file("ma") == file


def test_a_lock_that_cannot_be_read_is_a_reason():
    stored("NRQM_model.mat")
    stored(no_reference.LOCK, b"[1")
    with pytest.raises(Unavailable, match="not readable"):
        parameter_file("ma")


def test_a_download_is_pinned_too(monkeypatch):
    monkeypatch.setattr(no_reference, "_download", lambda _url, name: stored(name))
    with pytest.raises(Unavailable, match="not the published file"):
        parameter_file("niqe")


@needs_pyiqa
def test_slices_too_small_for_niqe_give_the_reason(niqe_file):
    volume = slices((191, 400)).astype(np.float32)
    (result,) = score(volume, reference(volume.shape), ["niqe"], parameters={"niqe": niqe_file})
    assert result.value is None
    assert "fewer than 2x2" in result.reason


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "MRSR_BENCH_OFFLINE"])
def test_offline_without_parameters_is_a_reason_and_neither_a_download_nor_a_pyiqa_call(
    variable, monkeypatch, nothing_cached
):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(no_reference, "_measure", lambda *_: pytest.fail("pyiqa was called"))
    monkeypatch.setattr(no_reference.importlib.util, "find_spec", lambda _: object())
    volume = slices(count=2).astype(np.float32)
    found = subject(score(volume, reference(volume.shape), ["niqe", "niqe_matlab", "ma", "pi"]))
    assert nothing_cached == []
    for key in found:
        assert found[key].value is None
        assert variable in found[key].reason
    assert "niqe_modelparameters.mat" in found["niqe"].reason
    assert found["pi"].reason.startswith("needs ma")


def test_a_failed_download_is_a_reason_and_is_not_tried_twice(nothing_cached):
    for _ in range(2):
        with pytest.raises(Unavailable, match="download failed"):
            parameter_file("ma")
    assert nothing_cached == [no_reference.PARAMETER_URL.format(name="NRQM_model.mat")]


def test_parameters_are_looked_for_at_the_path_then_in_torch_hub_then_in_the_store(tmp_path):
    places = [tmp_path / "own.mat", tmp_path / "torch/hub/pyiqa/NRQM_model.mat", tmp_path / "home/pyiqa/NRQM_model.mat"]
    for place in reversed(places):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        explicit = place if place == places[0] else None
        assert parameter_file("ma", explicit) == place
    with pytest.raises(Unavailable, match="no such parameter file"):
        parameter_file("ma", tmp_path / "elsewhere.mat")


@needs_pyiqa
def test_a_damaged_parameter_file_is_a_reason(tmp_path):
    file = tmp_path / "broken.mat"
    file.write_bytes(b"not a mat file")
    volume = slices(count=1).astype(np.float32)
    (result,) = score(volume, reference(volume.shape), ["niqe"], parameters={"niqe": file})
    assert "broken.mat" in result.reason


def test_without_pyiqa_the_reason_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(no_reference.importlib.util, "find_spec", lambda _: None)
    volume = slices(count=1).astype(np.float32)
    for result in score(volume, reference(volume.shape), ["niqe", "piqe"]):
        assert result.value is None
        assert "pip install 'mrsr-bench[perceptual]'" in result.reason
