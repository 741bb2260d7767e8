"""Overlap against counting by hand; HighRes3DNet's shape, parameters, windows and preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.head_rendering import LABELS
from mrsr_bench.benchmarks.metrics import score
from mrsr_bench.benchmarks.metrics import segmentation as overlap
from mrsr_bench.benchmarks.metrics.region import Reference, reference_of
from mrsr_bench.benchmarks.segmentation import parameters, preparation
from mrsr_bench.benchmarks.segmentation import segment as segmenting
from mrsr_bench.benchmarks.segmentation.network import RECEPTIVE_RADIUS, HighRes3DNet
from mrsr_bench.volume import Grid, Volume

SHARED = Path(__file__).resolve().parents[3] / "shared" / "weights" / parameters.FILE
TISSUE = ["tissue_dice", "tissue_jaccard", "tissue_volume_bias"]


def phantom_like(seed=0, shape=(24, 24, 24)):
    """Shells of CSF, grey and white matter with exact labels, and a noisy image of them."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    labels = np.zeros(shape, dtype=np.int16)
    data = np.zeros(shape)
    for outer, name, signal in ((0.95, "csf", 20), (0.8, "cortex", 60), (0.5, "white_matter", 100)):
        labels[radius < outer] = LABELS[name]
        data[radius < outer] = signal
    data += np.random.default_rng(seed).normal(0, 3, shape)
    return Volume(data.astype(np.float32), np.eye(4)), labels


def whole(hr: Volume, labels) -> Reference:
    return Reference(hr, 110.0, labels > 0, labels > 0, "x", ())


def test_overlaps_are_those_of_counting():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 4, (2, 9, 8, 7)).astype(np.int16)
    for label, found in overlap.overlaps(a, b, range(1, 4)).items():
        x, y = a == label, b == label
        assert found[0] == pytest.approx(2 * (x & y).sum() / (x.sum() + y.sum()))
        assert found[1] == pytest.approx((x & y).sum() / (x | y).sum())
        assert found[2] == pytest.approx((x.sum() - y.sum()) / y.sum())


def test_a_structure_that_the_truth_lacks_has_no_overlap():
    assert overlap.overlaps(np.ones((2, 2), np.int16), np.zeros((2, 2), np.int16), [1]) == {1: None}


def test_hr_itself_is_almost_right_and_a_blurred_image_is_worse():
    from scipy.ndimage import gaussian_filter

    hr, labels = phantom_like()
    reference = whole(hr, labels)
    sharp = {s.metric: s for s in score(hr.data, reference, TISSUE, labels=labels)}
    blurred = {s.metric: s for s in score(gaussian_filter(hr.data, 1.5), reference, TISSUE, labels=labels)}
    assert sharp["tissue_dice"].value > 0.99
    assert blurred["tissue_dice"].value < sharp["tissue_dice"].value - 0.02
    assert "HR itself: 0.99" in sharp["tissue_dice"].mark or "HR itself: 1.0" in sharp["tissue_dice"].mark
    assert blurred["tissue_jaccard"].value < blurred["tissue_dice"].value


def test_the_bias_of_volume_has_a_sign():
    hr, labels = phantom_like()
    found = score(hr.data * 1.5, whole(hr, labels), ["tissue_volume_bias"], labels=labels, structures=True)
    by_structure = {s.structure: s.value for s in found}
    assert by_structure["white_matter"] > 0.3
    assert by_structure["csf"] < 0


def test_structures_are_given_on_request_only():
    hr, labels = phantom_like()
    reference = whole(hr, labels)
    assert len(score(hr.data, reference, TISSUE, labels=labels)) == 3
    each = score(hr.data, reference, ["tissue_dice"], labels=labels, structures=True)
    assert [s.structure for s in each] == [None, *overlap.TISSUES]
    assert each[0].value == pytest.approx(np.mean([s.value for s in each[1:]]))


def test_without_labels_or_parameters_there_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    hr, labels = phantom_like()
    reference = whole(hr, labels)
    for key in ("tissue_dice", "parcellation_dice"):
        (found,) = score(hr.data, reference, [key])
        assert found.value is None
        assert found.reason
    digests, reason = overlap.parameters_of("parcellation_dice")
    assert digests == {}
    assert reason


def test_labels_of_another_shape_are_refused():
    hr, labels = phantom_like()
    with pytest.raises(UserError, match="labels have shape"):
        score(hr.data, whole(hr, labels), TISSUE, labels=labels[:-1])


def test_every_method_is_compared_with_one_parcellation_of_hr(monkeypatch):
    hr, _ = phantom_like()
    asked = []

    def fake(volume, parameters=None, *, device="auto"):
        asked.append(volume)
        return np.digitize(volume.data, [15, 40, 80]).astype(np.int16), volume

    monkeypatch.setattr(segmenting, "segment", fake)
    reference = reference_of(hr)
    first = score(hr.data, reference, ["parcellation_dice", "parcellation_volume_bias"])
    score(hr.data * 0.5, reference, ["parcellation_dice"])
    assert len(asked) == 3  # HR once, SR twice
    assert first[0].value == 1
    assert first[1].value == 0
    assert first[0].mark == "3 of 159 structures are in HR"


# ------------------------------------------------------------------------------------------------------ network


def tiny(classes=5) -> HighRes3DNet:
    torch.manual_seed(0)
    network = HighRes3DNet(classes).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.1)
    return network


@torch.inference_mode()
def test_labels_are_the_most_probable_classes():
    network = tiny()
    x = torch.randn(1, 1, 13, 6, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.labels(x, slab=4), network(x).argmax(1).short())


@torch.inference_mode()
def test_a_voxel_reaches_as_far_as_the_receptive_field_and_no_further():
    network = tiny()
    x = torch.randn(1, 1, 2 * RECEPTIVE_RADIUS + 7, 3, 3, generator=torch.Generator().manual_seed(2))
    changed = x.clone()
    changed[0, 0, RECEPTIVE_RADIUS + 3] += 100
    apart = (network(changed) - network(x)).abs().amax(dim=(0, 1, 3, 4))
    touched = torch.nonzero(apart > 0).flatten()
    assert int(touched.min()) >= 3
    assert int(touched.max()) <= 2 * RECEPTIVE_RADIUS + 3
    assert len(touched) > RECEPTIVE_RADIUS


@torch.inference_mode()
def test_skips_pad_new_channels_on_both_sides():
    network = tiny()
    block = network.block[2].dilation_block[0]
    x = torch.randn(1, 16, 5, 5, 5)
    padded = torch.cat([torch.zeros(1, 8, 5, 5, 5), x, torch.zeros(1, 8, 5, 5, 5)], dim=1)
    assert torch.allclose(block(x), block.residual_block(x) + padded)


def test_windows_with_enough_margin_are_the_whole():
    class Local:
        """A network whose label depends on the neighbours within 2 voxels."""

        def to(self, device):
            return self

        def labels(self, x):
            total = torch.nn.functional.avg_pool3d(torch.nn.functional.pad(x, [2] * 6), 5, stride=1)
            return (total > 0).short()[:, 0]

    image = np.random.default_rng(3).normal(size=(40, 33, 29)).astype(np.float32)
    at_once = segmenting.windowed_labels(Local(), image, window=64, margin=2)
    in_parts = segmenting.windowed_labels(Local(), image, window=16, margin=2)
    assert np.array_equal(at_once, in_parts)
    assert 0 < at_once.mean() < 1


class Labelled:
    """Stands in for the network: counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def to(self, device):
        return self

    def labels(self, x):
        self.asked += 1
        return (x > 0).short()[:, 0]


@pytest.fixture
def labelled(monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    network = Labelled()
    monkeypatch.setattr(segmenting, "parameter_file", lambda path: path)
    monkeypatch.setattr(segmenting, "load_network", lambda path: network)
    monkeypatch.setattr(segmenting, "prepared", lambda v: v.with_data(v.data - v.data.mean()))
    return network


def stored_labels(root):
    return sorted((root / "segmentation" / "labels").iterdir())


def test_labels_are_kept_for_the_same_image_and_no_other(labelled, tmp_path):
    hr, _ = phantom_like()
    first, grid = segmenting.segment(hr, device="cpu")
    again, same = segmenting.segment(Volume(hr.data.copy(), hr.affine.copy()), device="cpu")
    assert labelled.asked == 1
    assert np.array_equal(first, again)
    assert first.any()
    assert grid.same_as(same)
    segmenting.segment(hr.with_data(hr.data * np.float32(1.001)), device="cpu")
    moved = hr.affine.copy()
    moved[0, 3] += 1
    segmenting.segment(Volume(hr.data, moved), device="cpu")
    assert labelled.asked == 3
    assert len(stored_labels(tmp_path)) == 3


def test_a_change_of_the_way_makes_kept_labels_stale(labelled, monkeypatch):
    hr, _ = phantom_like()
    segmenting.segment(hr, device="cpu")
    monkeypatch.setattr(segmenting, "VERSION", segmenting.VERSION + 1)
    segmenting.segment(hr, device="cpu")
    assert labelled.asked == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", None])
def test_damaged_labels_are_done_again_and_mended(labelled, tmp_path, damage):
    hr, _ = phantom_like()
    first, _ = segmenting.segment(hr, device="cpu")
    (file,) = stored_labels(tmp_path)
    if damage is None:
        np.savez_compressed(file, labels=first[:-1])
    else:
        file.write_bytes(damage)
    again, _ = segmenting.segment(hr, device="cpu")
    assert labelled.asked == 2
    assert np.array_equal(first, again)
    segmenting.segment(hr, device="cpu")
    assert labelled.asked == 2
    assert stored_labels(tmp_path) == [file]


def test_labels_that_cannot_be_kept_are_given_all_the_same(labelled, tmp_path):
    (tmp_path / "segmentation").write_text("a file where a folder should be")
    hr, _ = phantom_like()
    labels, _ = segmenting.segment(hr, device="cpu")
    assert labels.any()


@pytest.mark.skipif(not SHARED.is_file(), reason="the parameters of HighRes3DNet are not beside the repository")
def test_the_published_parameters_fit_and_are_recognised():
    network = parameters.load_network(SHARED)
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    assert network.labels(x).shape == (1, 8, 8, 8)


@pytest.mark.parametrize("kind", ["pickle", "truncated", "foreign", "altered", "missing"])
def test_other_files_are_refused_in_a_sentence(kind, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / ("weights.pth" if kind == "pickle" else "weights.safetensors")
    if kind in ("pickle", "truncated"):
        path.write_bytes(b"\x80\x04 nothing")
    elif kind == "foreign":
        save_file({"a": torch.zeros(2)}, str(path))
    elif kind == "altered":
        save_file({k: v.contiguous() for k, v in HighRes3DNet().state_dict().items()}, str(path))
    with pytest.raises(UserError) as error:
        parameters.load_network(parameters.parameter_file(path))
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------------------------------- preparation


def test_the_1_mm_grid_turns_any_axes_to_ras_and_stays_in_place():
    affine = np.array([[0, 0, -1.2, 50], [0.9, 0, 0, -20], [0, 1.5, 0, 7], [0, 0, 0, 1.0]])
    grid = Grid((40, 30, 50), affine)
    found = preparation.one_mm_grid(grid)
    assert np.allclose(found.spacing, 1)
    assert np.allclose(found.affine[:3, :3], np.eye(3))
    assert found.shape == (60, 36, 45)
    assert np.allclose(found.affine[:3, 3], [50 - 1.2 * 49, -20, 7])


def test_percentiles_land_on_the_landmarks():
    rng = np.random.default_rng(5)
    data = np.concatenate([rng.normal(0, 1, 5000), rng.gamma(5, 30, 5000) + 50]).astype(np.float32).reshape(10, 10, -1)
    found = preparation.standardised(data)
    bright = data > data.mean(dtype=np.float64)
    assert np.allclose(np.percentile(found[bright], preparation.PERCENTILES), preparation.LANDMARKS, atol=0.2)
    knots = np.percentile(data[bright].astype(np.float64), preparation.PERCENTILES)
    inside = bright & (data >= knots[0]) & (data <= knots[-1])
    assert np.allclose(found[inside], np.interp(data[inside], knots, preparation.LANDMARKS), atol=1e-3)


def test_whitening_is_over_the_bright_voxels():
    data = np.random.default_rng(6).gamma(2, 10, (20, 20, 20))
    bright = data > data.mean()
    found = preparation.whitened(data)
    assert found[bright].mean() == pytest.approx(0, abs=1e-5)
    assert found[bright].std() == pytest.approx(1, abs=1e-5)


def test_a_constant_image_cannot_be_segmented():
    with pytest.raises(UserError, match="contrast"):
        preparation.standardised(np.ones((4, 4, 4), np.float32))


def test_n4_flattens_a_bias_field(monkeypatch):
    pytest.importorskip("SimpleITK")
    monkeypatch.setattr(preparation, "N4_ITERATIONS", (10, 10))
    shape = (20, 20, 20)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    head = (x**2 + y**2 + z**2 < 0.8).astype(np.float32)
    rng = np.random.default_rng(7)
    data = head * 100 * np.exp(0.4 * x) + np.abs(rng.normal(0, 1, shape))
    core = x**2 + y**2 + z**2 < 0.5
    flat = preparation.n4_corrected(Volume(data.astype(np.float32), np.diag([8.0, 8.0, 8.0, 1.0]))).data
    assert flat[core].std() / flat[core].mean() < 0.5 * data[core].std() / data[core].mean()


@pytest.mark.parametrize("key", ["tissue_volume_bias", "parcellation_volume_bias"])
def test_a_signed_error_is_best_at_zero_and_ranks_nothing(key):
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.benchmarks.reports.content import higher_is_better
    from mrsr_bench.benchmarks.tables import header

    assert metrics.get(key).direction == "nearest zero"
    assert header(key).endswith("bias →0")
    assert higher_is_better(key) is None


def test_the_reason_for_missing_parameters_names_no_option_that_run_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    with pytest.raises(UserError) as raised:
        parameters.parameter_file()
    assert f"put {parameters.FILE} into $MRSR_BENCH_HOME/segmentation" in str(raised.value)
    assert "--" not in str(raised.value)


def test_a_variable_can_name_the_parameters_for_every_command(monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    named = tmp_path / "elsewhere.safetensors"
    monkeypatch.setenv(parameters.VARIABLE, str(named))
    with pytest.raises(UserError, match=r"elsewhere\.safetensors: no such file of segmentation parameters"):
        parameters.parameter_file()
    named.write_bytes(b"x")
    assert parameters.parameter_file() == named
    monkeypatch.setenv(parameters.VARIABLE, "")
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    with pytest.raises(UserError, match=f"let \\${parameters.VARIABLE} name it"):
        parameters.parameter_file()
