"""SOUP: the generator against the authors' own, blending, factors, RRDB, and recipes."""

from pathlib import Path

import numpy as np
import pytest
import torch

import mrsr_bench
from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.methods.soup.method import (
    parameter_count,
    receptive_radius,
    rrdb_parameter_count,
    rrdb_receptive_radius,
)
from mrsr_bench.zoo.methods.soup.network import OfficialSoupGenerator, SoupGenerator, scale_weights
from mrsr_bench.zoo.methods.soup.rrdb import SoupRRDB, shuffle_slices
from mrsr_bench.zoo.recipe import load_recipe

SHARED = Path(mrsr_bench.__file__).resolve().parent.parent / "shared" / "weights"
RELEASED = SHARED / "soup_official_thin.safetensors"
needs_release = pytest.mark.skipif(not RELEASED.is_file(), reason="the authors' weights lie in ../shared only")
FAMILY = [spec for spec in methods.all() if spec.folder == "soup"]


def image(shape=(1, 1, 8, 7, 9), seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.abs(np.cumsum(rng.standard_normal(shape), axis=-1)).astype(np.float32) * 0.3)


def trained_like(network, seed=0):
    """The network with every parameter moved, so that its modules differ and its heads are not near zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def small(**arguments):
    torch.manual_seed(0)
    return trained_like(SoupGenerator(features=4, depth=2, **arguments))


@pytest.fixture(scope="module")
def released():
    from safetensors.torch import load_file

    return load_file(str(RELEASED))


@pytest.fixture(scope="module")
def golden():
    from safetensors.torch import load_file

    return load_file(str(SHARED / "soup_official_thin_golden.safetensors"))


CASES = ["s1_0_0_0_0", "s0_0_1_0_0", "s0_0_0.5_0.5_0"]


def factor_of(index):
    return float((index[0] * torch.arange(2, 7)).sum())


@needs_release
@pytest.mark.parametrize("case", CASES)
def test_the_generator_is_the_authors(released, golden, case):
    network = SoupGenerator()
    network.load_state_dict(released)
    given, wanted = golden[f"{case}.input"][:, None], golden[f"{case}.output"][:, None]
    with torch.no_grad():
        got = network(given, factor_of(golden[f"{case}.index"]))
    assert float((got - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


@needs_release
@pytest.mark.parametrize("case", CASES)
def test_the_official_method_takes_slices_last_and_scales_them_as_the_release_does(released, golden, case):
    network = OfficialSoupGenerator()
    network.load_state_dict(released)
    given = golden[f"{case}.input"][:, None].permute(0, 1, 3, 4, 2)
    wanted = golden[f"{case}.output"][:, None].permute(0, 1, 3, 4, 2)
    ours = given / 4000 + 0.25
    network.observe(torch.tensor([0.25, 10_000 / 4000 + 0.25]))
    with torch.no_grad():
        got = (network(ours, factor_of(golden[f"{case}.index"])) - 0.25) * 4000
    assert float((got - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())


def test_a_tile_of_the_official_method_is_scaled_by_the_whole_volume():
    network = trained_like(OfficialSoupGenerator())
    x = image((1, 1, 3, 3, 44))
    with torch.no_grad():
        unseen = network(x[..., :30], 3.0)
        network.observe(x)
        whole, tile = network(x, 3.0), network(x[..., :30], 3.0)
        network.observe(None)
        torch.testing.assert_close(network(x[..., :30], 3.0), unseen)
    torch.testing.assert_close(tile[..., :12], whole[..., :12], rtol=1e-4, atol=1e-5)
    assert float((unseen - tile).abs().max()) > 1e-3


def test_inference_shows_the_official_method_the_whole_volume(monkeypatch):
    from mrsr_bench.volume import AxisAcquisition, Volume
    from mrsr_bench.zoo.inference import NetworkUpscaler
    from mrsr_bench.zoo.method import Tiling

    seen = []
    network = OfficialSoupGenerator()
    monkeypatch.setattr(network, "observe", seen.append, raising=False)
    full, sample = AxisAcquisition("full"), AxisAcquisition("sample")
    data = (np.random.default_rng(0).random((5, 6, 8)) * 100).astype(np.float32)
    lr = Volume(data, np.diag([1.0, 1.0, 3.0, 1.0]), acquisition=(full, full, sample))
    target = lr.grid.resized((5, 6, 22), (1, 1, 1 / 3), (0, 0, 0))
    spec = methods.get("soup_gan_official")
    tasks = [get_protocol("thin-3").content["task"]]
    upscaler = NetworkUpscaler(network, "cubic", Tiling(window=12, margin=2), "cpu", False, spec=spec, tasks=tasks)
    assert upscaler.upscale(lr, target).grid.same_as(target)
    assert [image.shape[-3:] for image in seen] == [(5, 6, 22)]


def test_the_official_method_passes_a_constant_volume_through():
    flat = torch.full((1, 1, 5, 5, 5), 0.3)
    assert torch.equal(OfficialSoupGenerator()(flat, 2.0), flat)


@pytest.mark.parametrize(
    ("factor", "weights"),
    [
        (1.0, {2: 1.0}),
        (1.5, {2: 1.0}),
        (2.0, {2: 1.0}),
        (2.25, {2: 0.75, 3: 0.25}),
        (5.5, {5: 0.5, 6: 0.5}),
        (6.0, {6: 1.0}),
        (6.00001, {6: 1.0}),
        (3.0000001, {3: 1.0}),
        (0.99999, {2: 1.0}),
    ],
)
def test_a_factor_is_shared_by_its_two_neighbours(factor, weights):
    assert scale_weights(factor, (2, 3, 4, 5, 6)) == pytest.approx(weights)


@pytest.mark.parametrize("factor", [0.9, 6.1, 0.0, -2.0, 64.0, float("nan"), float("inf")])
def test_a_factor_beyond_1_to_6_is_refused_in_a_sentence(factor):
    with pytest.raises(UserError, match="from 1 to 6 along the slice axis") as caught:
        small()(image(), factor)
    assert "\n" not in str(caught.value)


def test_a_multi_scale_network_asks_for_the_factor_and_a_single_scale_one_does_not():
    with pytest.raises(TypeError, match="factor"):
        small()(image())
    assert small(scales=(4,))(image()).shape == image().shape


def test_a_blend_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="outputs or parameters"):
        build_network(methods.get("soup_multi"), {"blend": "sums"})


def halfway(tensors, single):
    """A single-scale network with the mean of the parameters of the modules for 2 and 3."""
    single.load_state_dict(
        {
            key: tensors[key]
            if key.startswith("backbone")
            else (tensors[key] + tensors[key.replace(".2.", ".3.", 1)]) / 2
            for key in single.state_dict()
        }
    )
    return single


@torch.no_grad()
def test_equation_3_is_the_network_with_averaged_parameters():
    network, x = small(blend="parameters"), image()
    mean = halfway(network.state_dict(), small(scales=(2,)))
    torch.testing.assert_close(network(x, 2.5), mean(x))
    network.blend = "outputs"
    assert float((network(x, 2.5) - mean(x)).abs().max()) > 1e-3


@torch.no_grad()
def test_weights_that_ship_can_be_blended_as_equation_3_has_it():
    method = mrsr_bench.load("soup_multi", device="cpu", blend="parameters")
    network, x = method.upscaler.network, image()
    averaged = halfway(network.state_dict(), build_network(methods.get("soup_single_2")))
    torch.testing.assert_close(network(x, 2.5), averaged(x), rtol=1e-4, atol=1e-5)
    as_released = mrsr_bench.load("soup_multi", device="cpu").upscaler.network
    assert float((as_released(x, 2.5) - averaged(x)).abs().max()) > 1e-3


def test_settings_that_a_trained_network_does_not_have_are_refused():
    with pytest.raises(UserError, match="mdcsrn_b4u4 has no setting called 'blend'; of a trained network nothing may"):
        mrsr_bench.load("mdcsrn", device="cpu", blend="parameters")
    with pytest.raises(UserError, match=r"soup_multi has no setting called 'features'.*blend may be set"):
        mrsr_bench.load("soup_multi", device="cpu", features=4)
    with pytest.raises(UserError, match="cubic has no setting called 'blend'"):
        mrsr_bench.load("cubic", blend="parameters")
    with pytest.raises(UserError, match="outputs or parameters"):
        mrsr_bench.load("soup_multi", device="cpu", blend="sums")


@torch.no_grad()
def test_the_release_blends_what_the_modules_give():
    """From the wiring, with torch's own modules: entries blended, one backbone, exits blended."""
    network, x = small(), image()
    relu = torch.nn.functional.relu

    def entry(s):
        y = x
        for conv in network.pre[str(s)]:
            y = relu(conv(y))
        return y + x

    pre = 0.75 * entry(4) + 0.25 * entry(5)
    features = pre
    for conv in network.backbone:
        features = relu(conv(features))
    exits = [network.post[str(s)][1](relu(network.post[str(s)][0](features))) for s in (4, 5)]
    torch.testing.assert_close(network(x, 4.25), pre + 0.75 * exits[0] + 0.25 * exits[1])


@pytest.mark.parametrize("blend", ["outputs", "parameters"])
@pytest.mark.parametrize(("factor", "used"), [(1.2, {2}), (3.0, {3}), (4.5, {4, 5}), (6.0, {6})])
def test_only_the_modules_in_use_are_computed_and_learn(blend, factor, used):
    network = small(blend=blend)
    network(image(), factor).square().mean().backward()
    for name, parameter in network.named_parameters():
        part, s, *_ = name.split(".")
        if part == "backbone" or int(s) in used:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("name", ["soup_multi", "soup_single_3"])
def test_a_new_network_gives_its_input_and_learns_everywhere(name):
    network, x = build_network(methods.get(name), seed=1), image()
    for factor in range(2, 7):
        y = network(x, float(factor))
        assert float((y - x).detach().abs().max()) < 5e-3 * float(x.max())
        (y - 1.1 * x).square().mean().backward()
    for label, parameter in network.named_parameters():
        assert float(parameter.grad.abs().sum()) > 0, label


def test_a_new_rrdb_network_repeats_slices_and_learns_everywhere():
    network, x = build_network(methods.get("soup_rrdb"), seed=1), image((1, 1, 6, 5, 4))
    y = network(x)
    assert y.shape == (1, 1, 6, 5, 16)
    assert float((y - x.repeat_interleave(4, dim=4)).detach().abs().max()) < 0.05 * float(x.max())
    (y - 1).square().mean().backward()
    for label, parameter in network.named_parameters():
        assert float(parameter.grad.abs().sum()) > 0, label


@pytest.mark.parametrize("spec", FAMILY, ids=lambda spec: spec.name)
def test_parameters_tasks_and_groups_are_what_the_method_declares(spec):
    network = build_network(spec)
    assert sum(p.numel() for p in network.parameters()) == spec.parameters
    assert [task for tasks in spec.groups.values() for task in tasks] == list(spec.tasks)
    for group, tasks in spec.groups.items():
        assert {get_protocol(task).degradation for task in tasks} == {f"{group}_slices"}
    multi = len(spec.arguments.get("scales", (2, 3))) > 1 and spec.scale is None
    assert spec.conditioned == multi


def test_sizes_in_closed_form():
    assert parameter_count(5) == 622_986
    assert rrdb_parameter_count(4) == sum(p.numel() for p in SoupRRDB(4).parameters())
    assert methods.get("soup_rrdb").scale == (1, 1, 4)


@pytest.mark.parametrize("factor", [2, 3, 5, 6])
def test_rrdb_networks_for_other_factors_can_be_named(factor):
    spec = methods.get(f"soup_rrdb_{factor}")
    assert spec.tasks == (f"thick-{factor}", f"thin-{factor}")
    assert spec.scale == (1, 1, factor)
    assert build_network(spec)(image((1, 1, 3, 3, 2))).shape == (1, 1, 3, 3, 2 * factor)


@pytest.mark.parametrize("name", ["soup_rrdb_4", "soup_rrdb_7", "soup_single_7", "soup_multi_2"])
def test_a_name_outside_the_family_is_refused_with_a_suggestion(name):
    with pytest.raises(UserError, match=r"no method called .*soup"):
        methods.get(name)


def test_the_pixel_shuffle_works_on_slices_alone():
    x = torch.arange(2 * 6 * 2 * 3 * 4, dtype=torch.float32).reshape(2, 6, 2, 3, 4)
    y = shuffle_slices(x, 3)
    assert y.shape == (2, 2, 2, 3, 12)
    for channel, k, i in [(0, 0, 0), (1, 2, 3), (0, 1, 2), (1, 0, 1)]:
        assert torch.equal(y[:, channel, :, :, i * 3 + k], x[:, channel * 3 + k, :, :, i])


def reach(network, x, at, *factor):
    """The first and last place along R that the output voxel ``at`` depends on."""
    x = x.double().requires_grad_(True)
    network.double()(x, *factor)[at].backward()
    reached = torch.nonzero(x.grad[0, 0].abs().sum(dim=(1, 2))).flatten()
    return int(reached.min()), int(reached.max())


def test_margins_cover_the_receptive_field():
    radius = receptive_radius()
    network = trained_like(SoupGenerator(features=2, scales=(2,)))
    for parameter in network.parameters():
        parameter.data.abs_()
    assert reach(network, torch.ones(1, 1, 2 * radius + 7, 3, 3), (0, 0, radius + 3, 1, 1)) == (3, 2 * radius + 3)
    radius = rrdb_receptive_radius(1)
    network = SoupRRDB(2, blocks=1, features=2, growth=2)
    for parameter in network.parameters():
        parameter.data.abs_()
    assert reach(network, torch.ones(1, 1, 2 * radius + 7, 3, 3), (0, 0, radius + 3, 1, 1)) == (3, 2 * radius + 3)
    assert rrdb_receptive_radius(2) == radius + 15


@pytest.mark.parametrize("name", ["soup_single_2", "soup_multi"])
def test_a_patch_can_be_learnt_by_heart(name):
    spec = methods.get(name)
    arguments = {**spec.arguments, "features": 8, "depth": 3}
    torch.manual_seed(0)
    network = SoupGenerator(**arguments)
    hr = image((1, 1, 6, 6, 6), seed=5)
    lr = hr + 0.2 * torch.from_numpy(np.random.default_rng(6).standard_normal((1, 1, 6, 6, 6)).astype(np.float32))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    before = float((lr - hr).abs().mean())
    for _ in range(80):
        loss = (network(lr, 2.5) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * before


def test_recipes_are_the_papers_and_say_where_they_are_not():
    folder = Path(mrsr_bench.__file__).parent / "zoo" / "methods" / "soup" / "recipes"
    recipes = {path.stem: load_recipe(path) for path in folder.glob("*.yaml")}
    for spec in FAMILY:
        assert {Path(path).stem for path in spec.recipes.values()} <= set(recipes)
    first = recipes["paper"].stages[0]
    assert (first.patch, dict(first.losses)) == ((32, 32, 32), {"mse": 1.0})
    assert [first.generator.lr_at(1000, 2000, drops) for drops in range(3)] == pytest.approx([3e-4, 1e-4, 1e-4 / 3])
    assert first.generator.cycles == 3
    gan = recipes["paper_gan"].stages[1]
    assert recipes["paper_gan"].stages[0] == first
    assert gan.kind == "gan"
    assert dict(gan.losses) == {"perceptual": 1.0, "adversarial": 0.01, "mse": 0.001}
    assert (gan.perceptual.backbone, gan.perceptual.layer, gan.perceptual.activated) == ("vgg19", "conv5_4", False)
    assert set(gan.perceptual.planes) == {"axial", "sagittal", "coronal"}
    assert recipes["quick_gan"].stages[0] == recipes["quick"].stages[0]
    assert recipes["thick_gan"].stages[0] == recipes["thick"].stages[0]
    for name in ("long", "thick"):
        assert dict(recipes[name].stages[-1].losses) == {"mse": 1.0}, "it ends on the paper's loss"
    for name, recipe in recipes.items():
        as_published = name.startswith("paper") or name.endswith("rrdb")
        kind, said = ("area", "repeating its slices") if "thick" in name else ("linear", "linearly")
        assert recipe.regrid == ("cubic" if as_published else kind)
        assert as_published or any(said in deviation for deviation in recipe.deviations), name
        assert recipe.deviations, name
        if name.endswith("rrdb"):
            assert all(recipe.stages[0].patch[2] % factor == 0 for factor in range(2, 7))
            assert "flip" not in recipe.augment
