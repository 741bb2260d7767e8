"""The SRResNet generator: counts, pixel order, the interpolation that it may start from, recipes."""

import numpy as np
import pytest
import torch

from mrsr_bench import UserError
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.methods.srgan.method import METHODS, parameter_count, receptive_radius
from mrsr_bench.zoo.methods.srgan.network import HeightShuffle, SRResNet, cubic_rows
from mrsr_bench.zoo.training import resolve_recipe

PUBLISHED = {"4x": 1_526_612, "8x": 1_674_325, "aniso_4x": 1_378_900, "aniso_8x": 1_452_757}
SCALES = [(4, 4), (8, 8), (4, 1), (8, 1)]


@pytest.mark.parametrize(("size", "count"), PUBLISHED.items())
@pytest.mark.parametrize("family", ["srresnet2d", "srgan"])
def test_grey_parameters(family, size, count):
    spec = methods.get(f"{family}_{size}")
    assert sum(p.numel() for p in build_network(spec).parameters()) == spec.parameters == count
    assert spec.generator == (f"srresnet2d_{size}" if family == "srgan" else None)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("skip", ["none", "edges", "first"])
def test_shape_and_a_gradient_for_every_parameter(scale, skip):
    network = SRResNet(scale, width=8, blocks=2, global_skip=skip).train()
    if skip != "none":
        torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    out = network(torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(1)))
    assert out.shape == (2, 1, 6 * scale[0], 9 * scale[1])
    out.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name
    assert sum(p.numel() for p in network.parameters()) == parameter_count(scale, 8, 2)


@pytest.mark.parametrize("scale", SCALES)
def test_the_receptive_field_is_what_it_says(scale):
    network = SRResNet(scale, width=8, blocks=2).eval()
    reached = []
    for axis in (2, 3):
        x = torch.zeros(1, 1, *((45, 5) if axis == 2 else (5, 45)), requires_grad=True)
        out = network(x).movedim(axis, 0)[22 * scale[axis - 2] : 23 * scale[axis - 2]]
        for line in out:
            (gradient,) = torch.autograd.grad(line[0, 0, line.shape[-1] // 2], x, retain_graph=True)
            found = torch.nonzero(gradient.abs().sum(dim=5 - axis).flatten()).flatten()
            reached += [22 - int(found.min()), int(found.max()) - 22]
    assert max(reached) == receptive_radius(scale, 2)


def test_the_height_shuffle_is_a_pixel_shuffle_along_the_height():
    x = torch.rand(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.pixel_shuffle(x.repeat_interleave(2, dim=1), 2)
    assert torch.equal(HeightShuffle()(x), wide[..., ::2])


@pytest.mark.parametrize("factor", [4, 8])
def test_the_skip_is_bicubic_interpolation_edges_agreeing(factor):
    x = torch.rand(1, 1, 12, 7, generator=torch.Generator().manual_seed(3))
    got = cubic_rows(x, factor, "edges")
    wanted = torch.nn.functional.interpolate(
        x, size=(12 * factor, 7), mode="bicubic", antialias=True, align_corners=False
    )
    inner = slice(2 * factor, -2 * factor)  # torch renormalises at the edge, here it is replicated
    torch.testing.assert_close(got[:, :, inner], wanted[:, :, inner], rtol=1e-4, atol=1e-5)


def test_the_skip_keeps_the_first_sample_where_samples_stay():
    x = torch.rand(1, 1, 9, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(cubic_rows(x, 4, "first")[:, :, ::4], x)
    line = torch.arange(9.0).reshape(1, 1, 9, 1)
    torch.testing.assert_close(cubic_rows(line, 4, "first")[0, 0, 8:25, 0], torch.arange(8, 25) / 4)


@pytest.mark.parametrize("scale", SCALES)
def test_a_network_with_a_skip_starts_at_the_interpolation(scale):
    network = SRResNet(scale, width=8, blocks=1, global_skip="edges").eval()
    x = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(5))
    both = cubic_rows(cubic_rows(x, scale[0], "edges").mT, scale[1], "edges").mT
    with torch.no_grad():
        torch.testing.assert_close(network(x), both)
        assert float((SRResNet(scale, width=8, blocks=1).eval()(x) - both).abs().max()) > 0.01


def test_a_patch_can_be_learnt_by_heart():
    torch.manual_seed(0)
    network = SRResNet((4, 4), width=12, blocks=1, global_skip="edges").train()
    hr = torch.rand(1, 1, 16, 16)
    lr = torch.nn.functional.interpolate(hr, scale_factor=0.25, mode="bicubic", antialias=True)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for _ in range(80):
        loss = (network(lr) - hr).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize("scale", [(3, 3), (4, 2), (1, 1), (2, 4)])
def test_other_factors_are_no_networks(scale):
    with pytest.raises(ValueError, match="power of two"):
        SRResNet(scale)


def test_a_recipe_may_set_the_skip_and_nothing_else():
    spec = methods.get("srgan_4x")
    assert build_network(spec, {"global_skip": "edges"}).global_skip == "edges"
    with pytest.raises(UserError, match="cannot set width"):
        build_network(spec, {"width": 8})


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: spec.name)
def test_recipes_train_slices_that_hold_whole_lr_pixels_and_a_gan_starts_as_its_twin(spec):
    for name in spec.recipes:
        recipe = resolve_recipe(spec, name)
        build_network(spec, recipe.network)
        for stage in recipe.stages:
            assert stage.patch.count(1) == 1
            assert all(n % spec.scale[0] == 0 for n in stage.patch if n > 1)
        if spec.generator is not None:
            twin = resolve_recipe(methods.get(spec.generator), name)
            assert (twin.stages, twin.network, twin.regrid) == (recipe.stages[:1], recipe.network, recipe.regrid)


def test_the_papers_recipe():
    stages = resolve_recipe(methods.get("srgan_8x"), "paper").stages
    assert [stage.steps // stage.epoch for stage in stages] == [20, 50]
    assert [(stage.batch, stage.patch) for stage in stages] == [(16, (224, 224, 1))] * 2
    for stage in stages:
        assert (stage.generator.lr_at(0, stage.steps), stage.generator.betas[0]) == (1e-4, 0.9)
        assert stage.generator.lr_at(stage.steps - 1, stage.steps) == 1e-4
    assert stages[0].losses == {"mse": 1.0}
    assert stages[1].losses == {"perceptual": 0.006, "adversarial": 1e-3}
    assert (stages[1].perceptual.backbone, stages[1].perceptual.layer) == ("vgg19", "conv5_4")


def test_a_network_for_point_samples_does_not_turn_its_slices_over():
    """Flipped, LR's first sample would no longer be HR's."""
    recipe = resolve_recipe(methods.get("srgan_through_plane"), "quick_thin")
    assert recipe.network == {"global_skip": "first"}
    assert "flip" not in recipe.augment


def test_names_tasks_and_groups():
    assert [spec.name for spec in METHODS if spec.walk == "through_plane"] == ["srgan_through_plane"]
    spec = methods.get("srgan_through_plane")
    assert {task for group in spec.groups.values() for task in group} <= set(spec.tasks)
    assert np.all([s.dims == 2 and s.input == "native" and s.scale is not None for s in METHODS])
