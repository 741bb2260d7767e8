"""What methods say of themselves, the mDCSRN family and its baselines, tiles; for every network: `test_contract`."""

import importlib
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.volume import Grid, Volume
from mrsr_bench.zoo.inference import _with_room, build_network, load_method, run_tiled, set_batch_norm, tiles
from mrsr_bench.zoo.layers import ConvToOne, look_near, taper
from mrsr_bench.zoo.method import Tiling
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.methods.mdcsrn.method import parameter_count, receptive_radius
from mrsr_bench.zoo.training import resolve_recipe

INTERPOLATIONS = [spec.name for spec in methods.all() if spec.kind == "interpolation"]


def structured(shape, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.standard_normal(shape), axis=0).astype(np.float32) * 0.1


def lr_and_target(seed=0):
    """A small LR volume, oblique and with permuted axes, and the grid of twice the samples along R and A."""
    rng = np.random.default_rng(seed)
    data = (rng.random((12, 14, 10)) * 100 + 10).astype(np.float32)
    affine = np.array([[0, 0, 2.0, -9], [2.0, 0, 0, 4], [0, -1.0, 0, 7], [0, 0, 0, 1]])
    lr = Volume(data, affine)
    factor = lr.grid.factor_by_axis((2, 2, 1))
    shape = [int(n * f) for n, f in zip(data.shape, factor, strict=True)]
    return lr, lr.grid.resized(shape, [1 / f for f in factor], (0, 0, 0))


@pytest.mark.parametrize("name", [spec.name for spec in methods.all()])
def test_a_method_says_what_it_is(name):
    spec = methods.get(name)
    assert spec.summary
    assert spec.paper
    assert re.fullmatch(r"[a-z0-9_]+", spec.name)
    assert set(spec.tasks) <= set(protocol_names())
    for member in spec.alias_for:
        assert methods.get(member).tasks == spec.tasks
    for recipe in spec.recipes:
        assert resolve_recipe(spec, recipe).stages


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("gan_circle", {"dropout": 5}),
        ("gan_circle", {"dropout": "much"}),
        ("srresnet2d_4x", {"global_skip": "banana"}),
    ],
)
def test_a_network_that_cannot_be_made_is_refused_in_one_sentence(name, entry):
    ((key, value),) = entry.items()
    with pytest.raises(UserError, match=f"{name}: there is no such network with {key}: {value}") as caught:
        build_network(methods.get(name), entry)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_an_interpolation_keeps_constants_units_and_place(name):
    lr, target = lr_and_target()
    flat = lr.with_data(np.full(lr.data.shape, 41.5))
    sr = load_method(name, task=None).upscale(flat, target)
    assert sr.grid.same_as(target)
    np.testing.assert_allclose(sr.data, 41.5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mdcsrn_b2u2_k4", "mdcsrn_b3u5_k6_r", "mdcsrn_gan_b2u4", "mdcsrn_b5u6"])
def test_any_member_of_the_family_can_be_named(name):
    spec = methods.get(name)
    assert spec.name == name
    assert sum(p.numel() for p in build_network(spec).parameters()) == spec.parameters


@pytest.mark.parametrize("name", ["mdcsrn_b0u4", "mdcsrn_b4u4_k0", "mdcsrn_b4u4k12", "mdcsrm", "mdcsrn_b4u4_k12_x"])
def test_a_name_outside_the_family_is_refused_with_a_suggestion(name):
    with pytest.raises(UserError, match=r"no method called .*mdcsrn"):
        methods.get(name)


def test_counts_and_receptive_field_in_closed_form():
    assert parameter_count(4, 4) == 228_480 + 25
    assert receptive_radius(4, 4) == 17
    assert receptive_radius(8, 4) == 33


def test_the_baselines_have_the_sizes_that_the_paper_states():
    fsrcnn, srdensenet, srresnet = (
        importlib.import_module(f"mrsr_bench.zoo.methods.{name}.method")
        for name in ("fsrcnn3d", "srdensenet3d", "srresnet3d")
    )
    assert fsrcnn.parameter_count() == 65_065
    assert fsrcnn.receptive_radius() == 10
    assert srdensenet.parameter_count() == 346_273
    assert srdensenet.receptive_radius() == 34
    assert srresnet.parameter_count() == 3_858_945
    assert srresnet.receptive_radius() == 42


def test_a_convolution_to_one_channel_is_the_librarys():
    torch.manual_seed(0)
    layer, library = ConvToOne(5, 9), torch.nn.Conv3d(5, 1, 9, padding=4)
    library.load_state_dict(layer.state_dict())
    x = torch.from_numpy(structured((2, 5, 6, 11, 7)))
    torch.testing.assert_close(layer(x), library(x), rtol=1e-5, atol=1e-5)


def test_a_tapered_convolution_weighs_near_voxels_more():
    torch.manual_seed(0)
    layer, library = ConvToOne(3, 5, tapered=True), torch.nn.Conv3d(3, 1, 5, padding=2)
    assert set(layer.state_dict()) == {"weight", "bias"}
    library.load_state_dict({**layer.state_dict(), "weight": layer.weight * taper(5)})
    x = torch.from_numpy(structured((1, 3, 6, 7, 5)))
    torch.testing.assert_close(layer(x), library(x), rtol=1e-5, atol=1e-5)
    assert taper(5)[2, 2, 2] == pytest.approx(1 + 1 / 125)
    assert taper(5)[0, 2, 2] == pytest.approx(math.exp(-2) + 1 / 125)


def test_a_large_first_layer_can_start_local():
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(1, 64, 9)
    before = float(layer.weight.detach().square().sum())
    look_near(layer)
    assert float(layer.weight.detach().square().sum()) == pytest.approx(before, rel=0.2)
    near = layer.weight.detach()[:, :, 2:7, 2:7, 2:7].square().sum()
    assert float(near) > 0.9 * float(layer.weight.detach().square().sum())


@pytest.mark.parametrize(
    ("stored", "window"),
    [
        (Tiling(96, 20), 128),
        (Tiling(160, 20), 160),
        (Tiling(96, 8), 96),
        (Tiling(70, 20, batch_norm="tile"), 70),
    ],
)
def test_stored_weights_work_in_larger_tiles_where_only_the_time_changes(stored, window):
    assert _with_room(stored, Tiling(128, 20)) == replace(stored, window=window)


@pytest.mark.parametrize("arguments", [(2, 2, 4, "direct"), (1, 3, 4, "reconstruction")])
def test_the_receptive_field_is_what_it_says(arguments):
    blocks, units, growth, head = arguments
    name = f"mdcsrn_b{blocks}u{units}_k{growth}" + ("_r" if head == "reconstruction" else "")
    network = build_network(methods.get(name)).eval()
    x = torch.zeros(1, 1, 25, 7, 7, requires_grad=True)
    network(x)[0, 0, 12, 3, 3].backward()
    reached = torch.nonzero(x.grad[0, 0].abs().sum(dim=(1, 2))).flatten()
    radius = receptive_radius(blocks, units, head)
    assert int(reached.min()) == 12 - radius
    assert int(reached.max()) == 12 + radius


def trained_like(name, seed=0, **overrides):
    """A network whose running statistics and weights are not those of the start."""
    network = build_network(methods.get(name), overrides, seed=seed).train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        network(torch.from_numpy(structured((2, 1, 12, 12, 12))))
    return network.eval()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("name", ["mdcsrn_b2u2_k4", "mdcsrn_b1u5_k4_r", "mdcsrn_b2u4_k3"])
def test_the_lean_inference_path_is_the_network(name, skip):
    network = trained_like(name, global_skip=skip)
    x = torch.from_numpy(structured((2, 1, 11, 9, 13)))
    with torch.inference_mode():
        lean = network(x)
    plain = network(x.requires_grad_()).detach()
    torch.testing.assert_close(lean, plain, rtol=1e-4, atol=1e-5)


def test_tiles_with_the_receptive_fields_margin_equal_the_whole():
    network = trained_like("mdcsrn_b2u2_k4")
    image = structured((41, 30, 27))
    whole = run_tiled(network, image, Tiling(window=64, margin=5))
    tiled = run_tiled(network, image, Tiling(window=18, margin=5))
    assert np.abs(tiled - whole).max() <= 1e-4 * np.abs(whole).max()
    short = run_tiled(network, image, Tiling(window=18, margin=1))
    assert np.abs(short - whole).max() > 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("mode", ["eval", "tile"])
def test_the_number_of_tiles_in_a_batch_changes_nothing(mode):
    network = trained_like("mdcsrn_b2u2_k4")
    set_batch_norm(network, mode)
    image = structured((26, 25, 12))
    tiling = Tiling(window=12, margin=2, batch_norm=mode)
    one, many = (run_tiled(network, image, tiling, batch=n) for n in (1, 5))
    np.testing.assert_allclose(many, one, rtol=1e-5, atol=1e-6)


def test_tile_mode_is_train_mode_at_batch_one_and_lets_constant_tiles_through():
    network = trained_like("mdcsrn_b2u2_k4")
    set_batch_norm(network, "tile")
    image = structured((10, 10, 10))
    got = run_tiled(network, image, Tiling(window=10, margin=2, batch_norm="tile"))
    set_batch_norm(network, "eval")
    with torch.no_grad():
        wanted = network.train()(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    set_batch_norm(network.eval(), "tile")
    flat = np.full((10, 10, 10), 0.25, dtype=np.float32)
    assert np.array_equal(run_tiled(network, flat, Tiling(window=10, margin=2, batch_norm="tile")), flat)


@pytest.mark.parametrize("mode", ["eval", "tile"])
@pytest.mark.parametrize("shape", [(41, 30, 27), (160, 192, 192), (10, 200, 71), (70, 71, 134)])
def test_tiles_have_one_shape_and_keep_every_voxel_once(shape, mode):
    tiling = Tiling(window=70, margin=3, batch_norm=mode)
    seen = np.zeros(shape, dtype=int)
    found = tiles(shape, tiling)
    for tile in found:
        seen[tile.keep] += 1
        for read, keep, size in zip(tile.read, tile.keep, shape, strict=True):
            assert 0 <= read.start <= keep.start < keep.stop <= read.stop <= size
            assert keep.start == 0 or keep.start - read.start >= 3
            assert keep.stop == size or read.stop - keep.stop >= 3
    assert (seen == 1).all()
    assert len({tuple(r.stop - r.start for r in tile.read) for tile in found}) == 1
    assert all(np.prod([r.stop - r.start for r in tile.read]) <= 70**3 for tile in found)


def test_the_papers_windows_are_cubes_of_70_at_a_stride_of_64():
    tiling = Tiling(**get_protocol("mdcsrn2020").inference["tiling"])
    found = tiles((320, 320, 256), tiling)
    assert {tile.read[0].stop - tile.read[0].start for tile in found} == {70}
    assert sorted({tile.read[0].start for tile in found}) == [0, 64, 128, 192, 250]


def test_a_window_that_the_margin_eats_is_refused():
    network = build_network(methods.get("mdcsrn_b1u2_k2")).eval()
    with pytest.raises(UserError, match="nothing left"):
        run_tiled(network, structured((30, 9, 9)), Tiling(window=10, margin=5))


def test_a_patch_can_be_learnt_by_heart():
    network = build_network(methods.get("mdcsrn_b2u3_k6"), {"global_skip": True}).train()
    hr = torch.from_numpy(structured((1, 1, 10, 10, 10), seed=5))
    lr = hr + 0.1 * torch.from_numpy(structured((1, 1, 10, 10, 10), seed=6))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    before = float((lr - hr).abs().mean())
    for _ in range(60):
        loss = (network(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss) < 0.5 * before


def test_missing_weights_are_said_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"no weights of mdcsrn_b6u4 .*mrsr-bench train") as caught:
        load_method("mdcsrn_b6u4", task="kspace-2x2x1")
    assert "\n" not in str(caught.value)


def test_a_task_that_a_method_does_not_do_is_refused():
    with pytest.raises(UserError, match="does not do thick-4"):
        load_method("mdcsrn", task="thick-4")


def test_grids_are_met_in_world_order_whatever_the_array_order():
    """The same head stored with permuted and flipped axes gives the same SR in the same place."""
    lr, target = lr_and_target()
    from mrsr_bench.zoo.inference import NetworkUpscaler

    network = trained_like("mdcsrn_b1u2_k3")
    upscaler = NetworkUpscaler(network, "linear", Tiling(window=64, margin=4), "cpu", False)
    plain = upscaler.upscale(lr, target)
    order = (2, 0, 1)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for new, old in enumerate(order):
        turn[old, new] = 1
    moved = Volume(np.ascontiguousarray(lr.data.transpose(order)), lr.affine @ turn)
    moved_target = Grid(tuple(target.shape[i] for i in order), target.affine @ turn)
    again = upscaler.upscale(moved, moved_target)
    np.testing.assert_allclose(again.data, plain.data.transpose(order), rtol=1e-4, atol=1e-3)
