"""GAN-CPCE and GAN-CIRCLE: their networks by hand, their recipes by the papers' schedules."""

import itertools

import numpy as np
import pytest
import torch

from mrsr_bench import UserError
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.training import resolve_recipe

NAMES = ["gan_cpce", "gan_circle", "gan_circle_official_code"]
IDENTITY_START = {"gan_cpce": {"shortcut": True}, "gan_circle": {"zero_start": True, "dropout": 0.0}}


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def slices(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def conv(entry, out, kernel):
    return entry * out * kernel * kernel + out


def test_cpce_has_the_62016_parameters_of_the_official_code():
    network = build_network(methods.get("gan_cpce"))
    assert parameters(network) == 62_016 == methods.get("gan_cpce").parameters
    assert not [name for name, _ in network.named_parameters() if "bias" in name]


def test_circle_has_the_parameters_counted_layer_by_layer():
    widths = [64, 54, 48, 43, 39, 35, 31, 28, 25, 22, 18, 16]
    count, entry = 0, 1
    for width in widths:
        count += conv(entry, width, 3)
        entry = width
    count += conv(423, 24, 1) + conv(423, 8, 1) + conv(8, 8, 3) + conv(32, 32, 3) + conv(32, 1, 3)
    spec = methods.get("gan_circle")
    assert list(spec.arguments["widths"]) == widths
    assert parameters(build_network(spec)) == spec.parameters == count


def test_the_official_widths_fall_from_128_to_16():
    spec = methods.get("gan_circle_official_code")
    widths = spec.arguments["widths"]
    assert (widths[0], widths[-1], len(widths)) == (128, 16, 12)
    assert all(a > b for a, b in itertools.pairwise(widths))
    assert parameters(build_network(spec)) == spec.parameters
    with pytest.raises(UserError, match="no method called"):
        methods.get("gan_circle_official")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (5, 30), (17, 12)])
def test_a_slice_of_any_size_keeps_its_grid(name, size):
    network = build_network(methods.get(name)).eval()
    x = slices(2, 1, *size)
    with torch.no_grad():
        both, one = network(x), network(x[1:])
    assert both.shape == x.shape
    torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    network = build_network(methods.get(name)).train()
    (network(slices(2, 1, 20, 17)) - 3).square().mean().backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", NAMES)
def test_the_margin_is_the_receptive_field(name):
    network = build_network(methods.get(name), {"dropout": 0.0} if "circle" in name else {}).double().eval()
    margin = methods.get(name).tiling.margin
    centre = margin + 3
    size = 2 * centre + 1
    x = slices(1, 1, size, size).double().requires_grad_(True)
    network(x)[0, 0, centre, centre].backward()
    reached = torch.nonzero(x.grad[0, 0].abs().sum(dim=1)).flatten()
    assert (int(reached.min()), int(reached.max())) == (centre - margin, centre + margin)


@pytest.mark.parametrize(("name", "overrides"), IDENTITY_START.items())
def test_a_quick_training_starts_at_the_interpolation_and_leaves_it(name, overrides):
    network = build_network(methods.get(name), overrides).train()
    lr = slices(1, 1, 12, 12) - 0.3
    assert torch.equal(network(lr), lr)
    hr = lr + 0.1 * slices(1, 1, 12, 12, seed=1)
    before = float((lr - hr).abs().mean())
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(40):
        loss = (network(lr) - hr).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6 * before


def test_the_quick_recipes_begin_so():
    for name, overrides in IDENTITY_START.items():
        assert resolve_recipe(methods.get(name), "quick").network == overrides


def test_cpce_without_the_shortcut_ends_in_a_relu_that_is_alive():
    for seed in range(5):
        out = build_network(methods.get("gan_cpce"), seed=seed)(slices(1, 1, 16, 16))
        assert out.min() >= 0
        assert out.max() > 0


def test_cpce_is_the_conveying_path_written_out():
    """The same sums in numpy, for one output sample far from the border and a network two filters wide."""
    from scipy.signal import convolve2d, correlate2d

    from mrsr_bench.zoo.methods.gan_cpce.network import CPCE

    torch.manual_seed(3)
    network = CPCE(filters=2).double()
    x = slices(1, 1, 19, 20).double()
    weight = {k: v.detach().numpy() for k, v in network.named_parameters()}

    def valid(maps, w):
        return np.stack([sum(correlate2d(m, k, "valid") for m, k in zip(maps, o, strict=True)) for o in w])

    def full(maps, w):
        outs = range(w.shape[1])
        return np.stack([sum(convolve2d(m, w[i, o], "full") for i, m in enumerate(maps)) for o in outs])

    def positive(maps):
        return np.maximum(maps, 0)

    a1 = valid(x.numpy()[0], weight["down.0.weight"])
    a2 = valid(positive(a1), weight["down.1.weight"])
    a3 = valid(positive(a2), weight["down.2.weight"])
    out = positive(valid(positive(a3), weight["down.3.weight"]))
    for index, across in enumerate((a3, a2, a1)):
        joined = positive(np.concatenate((full(out, weight[f"up.{index}.weight"]), across)))
        out = positive(np.einsum("oi,ihw->ohw", weight[f"merge.{index}.weight"][:, :, 0, 0], joined))
    wanted = positive(full(out, weight["last.weight"]))
    np.testing.assert_allclose(network(x).detach().numpy()[0], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "recipe"), [("gan_cpce", "paper"), ("gan_circle", "paper"), ("gan_circle", "unpaired")]
)
def test_the_papers_schedule_is_1e4_for_50_epochs_and_2e6_at_the_end(name, recipe):
    (stage,) = resolve_recipe(methods.get(name), recipe).stages
    rates = [stage.lr_at_epoch(epoch) for epoch in (0, 49, 50, 75, 100)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-4, (1e-4 + 2e-6) / 2, 2e-6], rtol=1e-6)
    assert stage.steps == 100 * stage.epoch
    assert stage.patch == (64, 64, 1)
    assert stage.game.d_per_g == 4
    assert stage.gradient_penalty == 10
    assert [stage.game.turn(step) for step in range(10)] == ["d", "d", "d", "d", "g"] * 2


def test_the_papers_losses():
    (cpce,) = resolve_recipe(methods.get("gan_cpce"), "paper").stages
    assert cpce.losses == {"adversarial": 1.0, "perceptual": 0.1}
    assert (cpce.perceptual.backbone, cpce.perceptual.layer, cpce.perceptual.activated) == ("vgg19", "conv5_4", False)
    circle, unpaired = (resolve_recipe(methods.get("gan_circle"), r).stages[0] for r in ("paper", "unpaired"))
    assert circle.losses == {"adversarial": 1.0, "cycle": 1.0, "identity": 0.5, "joint_sparsifying": 0.001}
    assert (circle.paired, unpaired.paired) == (True, False)
    assert circle.losses == unpaired.losses


def test_the_networks_are_2d_same_grid_and_walk_slices():
    for name in NAMES:
        spec = methods.get(name)
        assert (spec.dims, spec.walk, spec.scale, spec.input) == (2, "slices", None, "regridded")
