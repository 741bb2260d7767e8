"""Discriminators by the papers' layer lists, and the gradient penalty by closed forms."""

import pytest
import torch
from torch import nn

from mrsr_bench import UserError
from mrsr_bench.zoo.discriminators import Discriminator3D, build_discriminator, gradient_penalty

PATCHES = {"mdcsrn": (16, 16, 16), "srgan": (32, 40), "cpce": (16, 24), "circle": (32, 48)}


def count(module):
    return sum(p.numel() for p in module.parameters())


def stack(widths, kernel, dims):
    total, entry = 0, 1
    for width in widths:
        total += entry * width * kernel**dims + width
        entry = width
    return total


def judged(flat, width):
    return flat * 16 * width + 16 * width + 16 * width + 1


@pytest.mark.parametrize(("name", "patch"), PATCHES.items())
def test_one_number_per_patch_and_a_gradient_to_every_parameter(name, patch):
    critic = build_discriminator(name, patch, 4)
    x = torch.rand(3, 1, *patch, generator=torch.Generator().manual_seed(0))
    out = critic(x)
    assert out.shape == (3,)
    out.square().sum().backward()
    # A bias before a norm that takes the mean away again changes nothing: its gradient may vanish, but must exist.
    for label, parameter in critic.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.dim() == 1 or parameter.grad.abs().sum() > 0, label


def test_parameters_are_those_of_the_layers_counted_by_hand():
    w = 8
    srgan = stack([w, w, 2 * w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w], 3, 2)
    norms = 2 * (w + 2 * (2 * w + 4 * w + 8 * w))
    assert count(build_discriminator("srgan", (64, 48), w)) == srgan + norms + judged(8 * w * 4 * 3, w)
    cpce = stack([w, w, 2 * w, 2 * w, 4 * w, 4 * w], 3, 2)
    assert count(build_discriminator("cpce", (64, 64), w)) == cpce + judged(4 * w * 8 * 8, w)
    circle = stack([w, 2 * w, 4 * w, 8 * w], 4, 2)
    assert count(build_discriminator("circle", (64, 64), w)) == circle + judged(8 * w * 4 * 4, w)
    deep = stack([w, w, 2 * w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w], 3, 3)
    assert count(build_discriminator("mdcsrn", (32, 32, 16), w)) == deep + norms + judged(8 * w * 2 * 2 * 1, w)


def test_the_norms_are_the_papers():
    kinds = {
        "mdcsrn": (nn.GroupNorm, 7),
        "srgan": (nn.BatchNorm2d, 7),
        "circle": (nn.InstanceNorm2d, 4),
    }
    norms = (nn.GroupNorm, nn.BatchNorm2d, nn.InstanceNorm2d)
    for name, (kind, number) in kinds.items():
        found = [m for m in build_discriminator(name, PATCHES[name], 2).modules() if isinstance(m, norms)]
        assert [type(m) for m in found] == [kind] * number
    assert not [m for m in build_discriminator("cpce", PATCHES["cpce"], 2).modules() if isinstance(m, norms)]


def test_the_3d_critic_has_not_changed():
    assert isinstance(build_discriminator("mdcsrn", (8, 8, 8), 2), Discriminator3D)
    keys = Discriminator3D((8, 8, 8), 2).state_dict().keys()
    assert {"features.0.weight", "features.2.weight", "features.3.weight", "judge.0.weight", "judge.2.bias"} <= set(
        keys
    )


@pytest.mark.parametrize(
    ("name", "patch", "sentence"),
    [
        ("circle", (16, 64), "circle needs patches of at least 32 samples along every axis, not 16 x 64"),
        ("srgan", (31, 64), "at least 32"),
        ("cpce", (4, 4), "at least 8"),
        ("mdcsrn", (8, 8, 4), "at least 8"),
        ("mdcsrn", (64, 64), "judges 3D patches, not 64 x 64"),
        ("cpce", (64, 64, 1), "judges 2D patches"),
        ("patchgan", (64, 64), "no discriminator called 'patchgan'; there are: mdcsrn, srgan, cpce, circle"),
    ],
)
def test_a_patch_or_name_that_does_not_fit_is_refused(name, patch, sentence):
    with pytest.raises(UserError, match=sentence):
        build_discriminator(name, patch, 4)


class Linear(nn.Module):
    """D(x) = a . x, whose gradient is a everywhere."""

    def __init__(self, size, slope):
        super().__init__()
        self.a = nn.Parameter(torch.full((size,), slope))

    def forward(self, x):
        return x.flatten(1) @ self.a


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 2)])
@pytest.mark.parametrize("spread", [1, 4])
def test_the_penalty_of_a_linear_critic_is_its_closed_form(shape, spread):
    size = int(torch.tensor(shape).prod())
    critic = Linear(size, 0.3)
    real, fake = (torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    mix = torch.tensor([0.2, 0.9]).reshape(2, *[1] * spread)
    wanted = (0.3 * size**0.5 - 1) ** 2
    assert float(gradient_penalty(critic, real, fake, mix)) == pytest.approx(wanted, rel=1e-5)


def test_the_penalty_is_taken_between_real_and_fake_sample_by_sample():
    """D(x) = |x|^2 / 2 has the gradient x, so the penalty tells where it was taken."""

    class Square(nn.Module):
        def forward(self, x):
            return x.flatten(1).square().sum(1) / 2

    real, fake = torch.full((2, 1, 2, 2), 1.0), torch.full((2, 1, 2, 2), 3.0)
    mix = torch.tensor([0.25, 1.0])
    points = [0.25 * 1 + 0.75 * 3, 1.0]
    wanted = sum((2 * p - 1) ** 2 for p in points) / 2
    assert float(gradient_penalty(Square(), real, fake, mix)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", ["cpce", "circle", "mdcsrn"])
def test_the_penalty_can_be_trained_on(name):
    torch.manual_seed(0)
    critic = build_discriminator(name, PATCHES[name], 2)
    real, fake = torch.rand(2, 1, *PATCHES[name]), torch.rand(2, 1, *PATCHES[name])
    gradient_penalty(critic, real, fake, torch.rand(2)).backward()
    assert critic.judge[0].weight.grad.abs().sum() > 0
