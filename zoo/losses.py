"""Losses: what a training minimises, as functions of tensors.

Images are (n, 1, h, w) or (n, 1, r, a, s), scaled by LR; every loss is a scalar, a mean, so that its weight does not
depend on the patch. Those of features stand in `mrsr_bench.zoo.perceptual`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (sr.float() - hr.float()).abs().mean()


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared difference."""
    return (sr.float() - hr.float()).pow(2).mean()


def total_variation(image: Tensor) -> Tensor:
    """Anisotropic total variation: the mean absolute difference of neighbours, summed over the spatial axes."""
    total = torch.zeros((), device=image.device)
    for axis in range(2, image.dim()):
        if image.shape[axis] > 1:
            total = total + image.float().diff(dim=axis).abs().mean()
    return total


def joint_sparsifying(sr: Tensor, reference: Tensor, tau: float = 0.1) -> Tensor:
    """tau TV(SR) + (1 - tau) TV(reference - SR), the joint sparsifying transform of You et al. 2019.

    ``reference`` is HR; where there are no pairs, the network's input.
    """
    return tau * total_variation(sr) + (1 - tau) * total_variation(reference.float() - sr.float())


def cycle_consistency(lr: Tensor, lr_again: Tensor, hr: Tensor, hr_again: Tensor) -> Tensor:
    """|F(G(lr)) - lr| + |G(F(hr)) - hr|, both means."""
    return l1(lr_again, lr) + l1(hr_again, hr)


def identity(hr: Tensor, hr_through_g: Tensor, lr: Tensor, lr_through_f: Tensor) -> Tensor:
    """|G(hr) - hr| + |F(lr) - lr|, both means: a generator leaves alone what is already of its kind."""
    return l1(hr_through_g, hr) + l1(lr_through_f, lr)


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[D(SR)], from the critic's numbers (n,)."""
    return -fake.float().mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(SR)] - E[D(HR)]: minus the estimate of the earth mover's distance; the gradient penalty is added to it."""
    return fake.float().mean() - real.float().mean()


def bce_generator(fake: Tensor) -> Tensor:
    """-E[log sigmoid(D(SR))]: the non-saturating loss of Goodfellow et al. 2014, from logits (n,)."""
    return binary_cross_entropy_with_logits(fake.float(), torch.ones_like(fake, dtype=torch.float32))


def bce_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log sigmoid(D(HR))] - E[log(1 - sigmoid(D(SR)))], from logits (n,)."""
    right = binary_cross_entropy_with_logits(real.float(), torch.ones_like(real, dtype=torch.float32))
    return right + binary_cross_entropy_with_logits(fake.float(), torch.zeros_like(fake, dtype=torch.float32))


def gradient_ratio(reference: Tensor, other: Tensor, at: Tensor) -> float:
    """|d reference / d at| / |d other / d at|: the weight that gives ``other`` the pull of ``reference`` on ``at``.

    Raises:
        ValueError: ``other`` does not depend on ``at`` there.
    """
    norms = [torch.autograd.grad(loss, at, retain_graph=True)[0].float().norm() for loss in (reference, other)]
    if not float(norms[1]) > 0:
        raise ValueError("the loss to be weighted has no gradient here")
    return float(norms[0] / norms[1])
