"""Losses against numpy and closed forms."""

import math

import numpy as np
import pytest
import torch

from mrsr_bench.zoo import losses


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 1, 7, 5), (2, 1, 4, 6, 5), (1, 1, 6, 5, 1)])
def test_total_variation_is_numpys(shape):
    image = drawn(*shape)
    array = image.numpy().astype(np.float64)
    wanted = sum(np.abs(np.diff(array, axis=a)).mean() for a in range(2, len(shape)) if shape[a] > 1)
    assert losses.total_variation(image).item() == pytest.approx(wanted, rel=1e-5)


def test_total_variation_of_a_ramp_is_its_slopes():
    x, y = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    assert losses.total_variation((2 * x - 3 * y)[None, None]).item() == pytest.approx(5.0)


def test_l1_and_mse_of_a_constant_difference():
    hr = drawn(2, 1, 4, 4)
    assert losses.l1(hr - 0.5, hr).item() == pytest.approx(0.5, rel=1e-5)
    assert losses.mse(hr - 0.5, hr).item() == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("tau", [0.0, 0.1, 1.0])
def test_the_joint_sparsifying_transform_weighs_the_image_and_what_is_missing(tau):
    sr, hr = drawn(1, 1, 6, 6), drawn(1, 1, 6, 6, seed=1)

    def tv(a):
        return sum(np.abs(np.diff(a, axis=axis)).mean() for axis in (2, 3))

    wanted = tau * tv(sr.numpy()) + (1 - tau) * tv(hr.numpy() - sr.numpy())
    assert losses.joint_sparsifying(sr, hr, tau).item() == pytest.approx(wanted, rel=1e-5)


def test_cycle_and_identity_add_both_directions():
    lr, hr = drawn(1, 1, 4, 4), drawn(1, 1, 4, 4, seed=1)
    assert losses.cycle_consistency(lr, lr + 0.25, hr, hr - 0.5).item() == pytest.approx(0.75, rel=1e-5)
    assert losses.identity(hr, hr + 1, lr, lr).item() == pytest.approx(1.0, rel=1e-5)


def test_wasserstein_losses_are_differences_of_means_and_pull_apart():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 2.0])
    assert losses.wasserstein_critic(real, fake).item() == pytest.approx(0.5 - 2.0)
    assert losses.wasserstein_generator(fake).item() == pytest.approx(-0.5)


def test_bce_losses_are_logarithms_of_probabilities():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, -0.7])

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    right = -sum(math.log(sigmoid(v)) for v in real.tolist()) / 2
    wrong = -sum(math.log(1 - sigmoid(v)) for v in fake.tolist()) / 2
    assert losses.bce_discriminator(real, fake).item() == pytest.approx(right + wrong, rel=1e-5)
    wanted = -sum(math.log(sigmoid(v)) for v in fake.tolist()) / 2
    assert losses.bce_generator(fake).item() == pytest.approx(wanted, rel=1e-5)
    assert math.isfinite(losses.bce_discriminator(torch.tensor([-1e4]), torch.tensor([1e4])).item())


def test_the_gradient_ratio_makes_two_losses_pull_alike():
    sr = drawn(1, 1, 4, 4).requires_grad_(True)
    assert losses.gradient_ratio(sr.sum() * 6, sr.sum() * 2, sr) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="no gradient"):
        losses.gradient_ratio(sr.sum(), (sr * 0).sum(), sr)
