"""Band errors, Fourier shell correlation, HFEN and GMSD against closed forms and independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import fftconvolve

from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.metrics import metrics, score
from mrsr_bench.benchmarks.metrics.fidelity import band_energies
from mrsr_bench.benchmarks.metrics.frequency import NYQUIST_MARK, Curve, shell_correlations
from mrsr_bench.benchmarks.metrics.region import Reference, reference_of
from mrsr_bench.benchmarks.metrics.structure import gmsd, hfen
from mrsr_bench.volume import Grid, Volume
from mrsr_bench.zoo.regrid import regrid

BANDS = ["in_band_error", "out_of_band_error"]
RESOLUTIONS = ["resolution", "resolution_r", "resolution_a", "resolution_s"]


def noisy_ball(seed: int = 0, shape=(24, 22, 20), affine=None) -> Volume:
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    data = (x**2 + y**2 + z**2 < 0.8) * (100 + 30 * np.sin(9 * x + 5 * y)) + rng.normal(0, 8, shape)
    return Volume(data.astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine)


def measured(hr: Volume, name: str, **settings):
    degradation = degradations.get(name)
    params = degradation.sample(np.random.default_rng(0), hr, settings)
    lr, reference = degradation.apply(hr, params), degradation.reference(hr, params)
    return lr, reference_of(reference, lr), degradation, params


def values(sr, reference, keys, **keywords):
    return {s.metric: s for s in score(sr, reference, keys, **keywords) if s.slice is None}


@pytest.mark.parametrize("factor", [[2, 2, 1], [1, 2, 2], [1.5, 1, 1]])
def test_zero_filling_keeps_all_that_was_measured_and_adds_nothing(factor):
    hr = noisy_ball()
    lr, reference, _, _ = measured(hr, "kspace_truncation", factor=factor)
    found = values(regrid(lr, hr.grid, "zero_fill").data, reference, BANDS, lr=lr)
    assert found["in_band_error"].value < 1e-5
    assert found["out_of_band_error"].value == pytest.approx(1, abs=1e-5)


def test_invented_detail_costs_more_than_none_and_true_detail_less():
    hr = noisy_ball(1)
    lr, reference, _, _ = measured(hr, "kspace_truncation", factor=[2, 2, 1])
    zero = regrid(lr, hr.grid, "zero_fill").data
    missing = hr.data - zero
    invented = values(zero - missing, reference, BANDS, lr=lr)["out_of_band_error"].value
    half_right = values(zero + 0.5 * missing, reference, BANDS, lr=lr)["out_of_band_error"].value
    assert invented == pytest.approx(2, abs=1e-3)
    assert half_right == pytest.approx(0.5, abs=1e-3)


def test_bands_of_thick_slices_obey_parseval():
    hr = noisy_ball(2)
    lr, reference, _, _ = measured(hr, "thick_slices", factor=[1, 1, 4])
    inside, outside = band_energies(reference.hr.data, reference.hr.grid, lr, reference.degraded_axes)
    total = float((reference.hr.data.astype(np.float64) ** 2).sum())
    edge_left_out = total - inside - outside
    assert 0 <= edge_left_out < 0.1 * total
    assert inside > 0
    assert outside > 0


def test_a_cosine_above_the_nyquist_frequency_of_thick_slices_lies_outside_the_band():
    grid = Grid((8, 8, 16), np.eye(4))
    lr = Volume(np.zeros((8, 8, 4)), np.diag([1.0, 1, 4, 1]))
    for wave, expected_inside in ((3, True), (5, False)):
        cosine = np.cos(np.pi * wave * (np.arange(16) + 0.5) / 16)
        data = np.broadcast_to(cosine, (8, 8, 16)).astype(np.float32)
        inside, outside = band_energies(data, grid, lr, [2])
        assert (inside > 1e3 * outside) is expected_inside


def test_bands_need_lr_and_say_so():
    hr = noisy_ball()
    found = values(hr.data, reference_of(hr), BANDS)
    assert all(s.value is None and "LR" in s.reason for s in found.values())


def brute_force_shell(sr, hr, shell_width, index):
    x, y = (np.fft.fftn(d - d.mean()) for d in (sr.astype(np.float64), hr.astype(np.float64)))
    f = np.meshgrid(*(np.fft.fftfreq(n) for n in sr.shape), indexing="ij")
    radius = np.sqrt(sum(a**2 for a in f))
    chosen = (np.rint(radius / shell_width) == index) & (radius <= 0.5)
    top = (x[chosen] * np.conj(y[chosen])).sum().real
    return top / math.sqrt((np.abs(x[chosen]) ** 2).sum() * (np.abs(y[chosen]) ** 2).sum())


@pytest.mark.parametrize("shape", [(16, 14, 12), (11, 13, 15)])
def test_the_shells_are_those_of_a_full_fourier_transform(shape):
    hr, sr = noisy_ball(3, shape).data, noisy_ball(4, shape).data
    curve = shell_correlations(sr, hr, Grid(shape, np.eye(4)))["all"]
    width = 1 / min(shape)
    expected = [brute_force_shell(sr, hr, width, k) for k in range(1, len(curve.correlation) + 1)]
    assert np.allclose(curve.correlation, expected, atol=1e-5)


def test_white_noise_at_equal_power_correlates_as_the_closed_form_says():
    rng = np.random.default_rng(5)
    hr = rng.normal(size=(40, 40, 40))
    sr = hr + rng.normal(size=hr.shape)
    curve = shell_correlations(sr, hr, Grid((40, 40, 40), np.eye(4)))["all"]
    assert np.allclose(curve.correlation[5:], math.sqrt(0.5), atol=0.06)


def test_the_resolution_of_a_zero_filled_image_is_its_true_one_along_each_axis():
    rng = np.random.default_rng(6)
    affine = np.diag([1.0, 2.0, 1.5, 1.0])
    hr = Volume(rng.normal(100, 20, (40, 40, 40)).astype(np.float32), affine)
    lr, reference, _, _ = measured(hr, "kspace_truncation", factor=[2, 1, 1])
    found = values(regrid(lr, hr.grid, "zero_fill").data, reference, RESOLUTIONS)
    assert found["resolution_r"].value == pytest.approx(4, rel=0.1)
    assert found["resolution_a"].value == pytest.approx(4.0)
    assert found["resolution_a"].mark == NYQUIST_MARK
    assert found["resolution_s"].value == pytest.approx(3.0)


def test_axes_of_the_resolution_are_named_after_the_world_not_the_array():
    rng = np.random.default_rng(7)
    affine = np.array([[0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])  # array axes A, S, L
    hr = Volume(rng.normal(100, 20, (32, 32, 32)).astype(np.float32), affine)
    lr, reference, _, _ = measured(hr, "kspace_truncation", factor=[1, 1, 2])
    found = values(regrid(lr, hr.grid, "zero_fill").data, reference, RESOLUTIONS)
    assert found["resolution_s"].value == pytest.approx(4, rel=0.15)
    assert found["resolution_r"].value == pytest.approx(2)


def test_the_crossing_is_interpolated_between_shells():
    period, crossed = Curve((0.1, 0.2), (0.9, 0.1), 0.5).resolution
    assert crossed
    assert period == pytest.approx(1 / 0.15)


def test_a_constant_image_has_no_resolution():
    hr = noisy_ball()
    assert values(np.ones_like(hr.data), reference_of(hr), ["resolution"])["resolution"].value is None


def log_kernel(sigma=1.5, radius=7):
    t = np.arange(-radius, radius + 1)
    g = np.exp(-(t**2) / (2 * sigma**2))
    g /= g.sum()
    second = g * (t**2 / sigma**4 - 1 / sigma**2)
    second = second - g * second.sum()
    parts = [np.einsum("i,j,k->ijk", *(second if a == axis else g for a in range(3))) for axis in range(3)]
    return sum(parts)


def test_hfen_is_the_norm_of_the_error_under_an_explicit_kernel():
    rng = np.random.default_rng(8)
    hr = rng.normal(size=(30, 30, 30))
    error = 0.3 * rng.normal(size=hr.shape)
    mask = np.zeros(hr.shape, dtype=bool)
    mask[10:20, 9:21, 10:20] = True
    kernel = log_kernel()
    a, b = (fftconvolve(d, kernel, mode="same")[mask] for d in (error, hr))
    assert hfen(error, hr, mask) == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b), rel=0.01)


def test_hfen_of_hr_is_zero_and_of_nothing_is_one():
    hr = noisy_ball()
    reference = reference_of(hr)
    assert values(hr.data, reference, ["hfen"])["hfen"].value == 0
    assert values(np.zeros_like(hr.data), reference, ["hfen"])["hfen"].value == pytest.approx(1)


def test_gmsd_is_that_of_pyiqa():
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("pyiqa.archs.gmsd_arch")
    rng = np.random.default_rng(9)
    hr = rng.uniform(0, 255, (46, 38))
    sr = np.clip(hr + rng.normal(0, 30, hr.shape), 0, 255)
    x, y = (torch.from_numpy(i / 255)[None, None].float() for i in (sr, hr))
    expected = float(reference.gmsd(x, y, channels=1, test_y_channel=False)[0])
    assert gmsd(sr, hr) == pytest.approx(expected, rel=1e-4)
    assert gmsd(hr, hr) == 0


def test_gmsd_states_every_slice_and_their_mean():
    hr = noisy_ball()
    found = score(hr.data * 0.9, reference_of(hr), ["gmsd"])
    whole, slices = found[0], found[1:]
    assert whole.slice is None
    assert whole.value == pytest.approx(np.mean([s.value for s in slices]))
    assert len(slices) > 3


@pytest.mark.parametrize("key", [*BANDS, *RESOLUTIONS, "hfen", "gmsd", "lpips", "dists"])
def test_every_metric_says_what_it_is(key):
    spec = metrics.get(key)
    assert spec.direction == "lower"
    assert spec.source
    assert spec.convention
    assert spec.units


def test_scores_are_the_same_for_a_permuted_image():
    hr, sr = noisy_ball(10), noisy_ball(11)
    keys = ["hfen", *RESOLUTIONS]
    first = values(sr.data, reference_of(hr), keys)
    order = (2, 0, 1)
    turned = Volume(np.ascontiguousarray(hr.data.transpose(order)), hr.affine[:, [*order, 3]])
    second = values(np.ascontiguousarray(sr.data.transpose(order)), reference_of(turned), keys)
    for key in keys:
        assert first[key].value == pytest.approx(second[key].value, rel=1e-4)


def test_a_metric_with_missing_parameters_is_null_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    shape = (70, 70, 8)
    hr = noisy_ball(12, shape)
    region = np.ones(shape, dtype=bool)
    reference = Reference(hr, 150.0, region, region, "x", (2,))
    pytest.importorskip("pyiqa")
    for s in score(hr.data, reference, ["lpips", "dists"]):
        assert s.value is None
        assert s.reason


def test_perceptual_distances_see_every_slice_and_are_zero_for_hr(monkeypatch):
    torch = pytest.importorskip("torch")
    from mrsr_bench.benchmarks.metrics import perceptual

    class Distance(torch.nn.Module):
        def forward(self, a, b):
            assert a.shape == b.shape == (1, 3, 70, 66)
            assert 0 <= float(a.min()) <= float(a.max()) <= 1
            return (a - b).abs().mean()[None, None]

    monkeypatch.setattr(perceptual, "network", lambda key: Distance())
    shape = (70, 66, 5)
    hr = noisy_ball(13, shape)
    region = np.ones(shape, dtype=bool)
    reference = Reference(hr, float(hr.data.max()), region, region, "x", (0, 1))
    assert score(hr.data, reference, ["lpips"])[0].value == 0
    sr = np.clip(hr.data, 0, None) * 0.5
    found = score(sr, reference, ["lpips"])
    expected = np.abs(np.clip(sr, 0, hr.data.max()) - np.clip(hr.data, 0, None)).mean() / hr.data.max()
    assert len(found) == 6
    assert found[0].value == pytest.approx(expected, rel=1e-4)


def test_a_damaged_parameter_file_is_named(monkeypatch, tmp_path):
    pytest.importorskip("pyiqa")
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    from mrsr_bench.benchmarks.metrics import perceptual

    for folder, url in perceptual.NEEDED["lpips"]:
        file = tmp_path / "hub" / folder / url.rpartition("/")[2]
        file.parent.mkdir(parents=True)
        file.write_bytes(b"not it")
    digests, reason = perceptual.parameters_of("lpips")
    assert digests == {}
    assert "damaged" in reason


def random_network(key, monkeypatch):
    """pyiqa's network on random parameters; its constructors ask for published ones, which are not at hand."""
    pytest.importorskip("pyiqa")
    torch = pytest.importorskip("torch")
    try:
        from pyiqa.archs import dists_arch, lpips_arch
        from torchvision import models
    except ImportError as error:
        pytest.skip(f"pyiqa cannot be imported: {error}")
    for name in ("alexnet", "vgg16"):
        untrained = getattr(models, name)
        monkeypatch.setattr(models, name, lambda build=untrained, **_: build(weights=None))
    torch.manual_seed(20)
    try:
        model = (lpips_arch.LPIPS if key == "lpips" else dists_arch.DISTS)(pretrained=False)
    except OSError as error:  # what torch hub raises for a file that it may not fetch
        pytest.skip(f"pyiqa cannot build {key} without its publishers' files: {error}")
    if key == "lpips":
        for layer in model.lins:
            layer.model[-1].weight.data.abs_()  # the published ones are not negative
    return model.eval()


def rgb(image, mean, deviation):
    return np.stack([(image - m) / d for m, d in zip(mean, deviation, strict=True)])


def features(image, weights, plan):
    """The maps of a network, in float64: ``plan`` has a list of steps for each map that is kept."""
    import torch
    from torch.nn import functional

    found, h, weights = [], torch.from_numpy(image)[None], iter(weights)
    for steps in plan:
        for step, *numbers in steps:
            if step == "conv":
                weight, bias = next(weights).double(), next(weights).double()
                h = functional.conv2d(h, weight, bias, stride=numbers[0], padding=numbers[1]).relu()
            elif step == "max":
                h = functional.max_pool2d(h, 3, 2)
            else:  # the L2 pooling of Hénaff and Simoncelli 2016: root of the Hann-weighted mean of squares
                hann = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
                kernel = (hann[:, None] * hann)[None, None].repeat(h.shape[1], 1, 1, 1)
                h = (functional.conv2d(h**2, kernel, stride=2, padding=1, groups=h.shape[1]) + 1e-12).sqrt()
        found.append(h[0].numpy())
    return found


ALEXNET = [
    [("conv", 4, 2)],
    [("max",), ("conv", 1, 2)],
    [("max",), ("conv", 1, 1)],
    [("conv", 1, 1)],
    [("conv", 1, 1)],
]
VGG16 = [[("conv", 1, 1)] * 2, *([("l2",)] + [("conv", 1, 1)] * n for n in (2, 3, 3, 3))]


def literal_lpips(sr, hr, model):
    """Zhang et al. 2018, equation 1: weighted squared differences of unit feature vectors, mean over places, summed."""
    weights = [parameter for name, parameter in model.named_parameters() if name.startswith("net.")]
    maps = [
        features(rgb(2.0 * i - 1, (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)), weights, ALEXNET) for i in (sr, hr)
    ]
    total = 0.0
    for layer, a, b in zip(model.lins, *maps, strict=True):
        unit_a, unit_b = (y / (np.sqrt((y**2).sum(axis=0)) + 1e-10) for y in (a, b))
        weight = layer.model[-1].weight.detach().double().numpy().ravel()
        total += np.einsum("c,cyx->yx", weight, (unit_a - unit_b) ** 2).mean()
    return total


def literal_dists(sr, hr, model):
    """Ding et al. 2022, equations 4 to 6, the image itself being the first map."""
    weights = [parameter for name, parameter in model.named_parameters() if name.startswith("stage")]
    maps = []
    for image in (sr, hr):
        plain = np.stack([image] * 3).astype(np.float64)
        scaled = rgb(image.astype(np.float64), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        maps.append([plain, *features(scaled, weights, VGG16)])
    alpha, beta = (parameter.detach().double().numpy().ravel() for parameter in (model.alpha, model.beta))
    texture, structure = [], []
    for a, b in zip(*maps, strict=True):
        for x, y in zip(a, b, strict=True):
            covariance = ((x - x.mean()) * (y - y.mean())).mean()
            texture.append((2 * x.mean() * y.mean() + 1e-6) / (x.mean() ** 2 + y.mean() ** 2 + 1e-6))
            structure.append((2 * covariance + 1e-6) / (x.var() + y.var() + 1e-6))
    return 1 - (alpha @ np.array(texture) + beta @ np.array(structure)) / (alpha.sum() + beta.sum())


@pytest.mark.parametrize(("key", "literal"), [("lpips", literal_lpips), ("dists", literal_dists)])
def test_perceptual_distances_are_their_formulas_on_random_parameters(key, literal, monkeypatch):
    from mrsr_bench.benchmarks.metrics import perceptual

    model = random_network(key, monkeypatch)
    monkeypatch.setattr(perceptual, "network", lambda key: model)
    shape = (66, 70, 1)
    hr, sr = noisy_ball(21, shape), noisy_ball(22, shape).data
    region = np.ones(shape, dtype=bool)
    reference = Reference(hr, 150.0, region, region, "x", (0, 1))
    found = score(sr, reference, [key])[0].value
    expected = literal(*(np.clip(v[..., 0].astype(np.float64) / 150, 0, 1) for v in (sr, hr.data)), model)
    assert expected > 1e-4
    assert found == pytest.approx(expected, rel=1e-3)
