"""Critics and discriminators of the adversarial methods. They give one number per patch: no sigmoid at the end.

The papers' widths are 64. Where a paper leaves something open: convolutions are padded by one sample and have a bias,
the fully connected layers are 16 widths wide, and GAN-CIRCLE's convolutions have stride 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mrsr_bench import UserError

SLOPE = 0.2


class _Discriminator(nn.Module):
    """``layers`` make ``channels`` maps of ``size``; flatten, FC 16w, leaky ReLU, FC 1 make one number of them."""

    def __init__(self, layers: Sequence[nn.Module], channels: int, size: Sequence[int], width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        flat = channels * math.prod(size)
        self.judge = nn.Sequential(nn.Linear(flat, 16 * width), nn.LeakyReLU(SLOPE), nn.Linear(16 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.judge(self.features(x).flatten(1)).squeeze(1)
        return out


class Discriminator3D(_Discriminator):
    """mDCSRN-GAN's critic: eight 3x3x3 convolutions, widths w, w, 2w, 2w, 4w, 4w, 8w, 8w, every second one strided.

    Leaky ReLU 0.2; layer norm over channels and space with one gain and offset per channel on all but the first;
    flatten, FC 16w, leaky ReLU, FC 1, no sigmoid. The paper's width is 64. Input (n, 1, *patch), output (n,).
    """

    def __init__(self, patch: tuple[int, int, int], width: int = 64) -> None:
        layers: list[nn.Module] = []
        channels, size = 1, list(patch)
        for index in range(8):
            out, stride = width * 2 ** (index // 2), 1 + index % 2
            layers.append(nn.Conv3d(channels, out, 3, stride=stride, padding=1))
            if index > 0:
                layers.append(nn.GroupNorm(1, out))
            layers.append(nn.LeakyReLU(SLOPE))
            channels, size = out, [(n - 1) // stride + 1 for n in size]
        super().__init__(layers, channels, size, width)


class Discriminator2D(_Discriminator):
    """3x3 convolutions in pairs of one width, the second of a pair strided; ``pairs`` 4 is SRGAN's, 3 GAN-CPCE's.

    Widths w, w, 2w, 2w, 4w, 4w (, 8w, 8w); leaky ReLU 0.2; batch norm on all but the first with ``batch_norm``
    (SRGAN's; a critic under a gradient penalty has none, since it judges each sample by itself); flatten, FC 16w,
    leaky ReLU, FC 1. Input (n, 1, *patch), output (n,).
    """

    def __init__(self, patch: tuple[int, int], width: int = 64, *, pairs: int = 4, batch_norm: bool = True) -> None:
        layers: list[nn.Module] = []
        channels, size = 1, list(patch)
        for index in range(2 * pairs):
            out, stride = width * 2 ** (index // 2), 1 + index % 2
            layers.append(nn.Conv2d(channels, out, 3, stride=stride, padding=1))
            if index > 0 and batch_norm:
                layers.append(nn.BatchNorm2d(out))
            layers.append(nn.LeakyReLU(SLOPE))
            channels, size = out, [(n - 1) // stride + 1 for n in size]
        super().__init__(layers, channels, size, width)


class CircleDiscriminator(_Discriminator):
    """GAN-CIRCLE's critic: four 4x4 convolutions with stride 2, widths w, 2w, 4w, 8w, instance norm, leaky ReLU 0.2.

    Then flatten, FC 16w, leaky ReLU, FC 1. Input (n, 1, *patch), output (n,).
    """

    def __init__(self, patch: tuple[int, int], width: int = 64) -> None:
        layers: list[nn.Module] = []
        channels, size = 1, list(patch)
        for stage in range(4):
            out = width * 2**stage
            layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.InstanceNorm2d(out), nn.LeakyReLU(SLOPE)]
            channels, size = out, [n // 2 for n in size]
        super().__init__(layers, channels, size, width)


def _srgan(patch: tuple[int, int], width: int) -> nn.Module:
    return Discriminator2D(patch, width)


def _cpce(patch: tuple[int, int], width: int) -> nn.Module:
    return Discriminator2D(patch, width, pairs=3, batch_norm=False)


_KINDS: dict[str, tuple[int, int, Callable[..., nn.Module]]] = {
    "mdcsrn": (3, 8, Discriminator3D),
    "srgan": (2, 32, _srgan),
    "cpce": (2, 8, _cpce),
    "circle": (2, 32, CircleDiscriminator),
}
"""Name: spatial dimensions, the smallest patch (every strided convolution then has something to halve, and what is
normalised per image or batch has more than one sample), and what makes it."""


def build_discriminator(name: str, patch: Sequence[int], width: int = 64) -> nn.Module:
    """The discriminator ``name`` for patches (n, 1, *patch); 2D ones take two sizes, the 3D one three.

    Raises:
        UserError: the name is unknown, or the patch has the wrong number of axes or is too small.
    """
    if name not in _KINDS:
        raise UserError(f"there is no discriminator called {name!r}; there are: {', '.join(_KINDS)}")
    dims, smallest, make = _KINDS[name]
    size = " x ".join(map(str, patch))
    if len(patch) != dims:
        raise UserError(
            f"the discriminator {name} judges {dims}D patches, not {size}; choose another discriminator_net or patch"
        )
    if min(patch) < smallest:
        raise UserError(
            f"the discriminator {name} needs patches of at least {smallest} samples along every axis, not {size}; "
            "use larger patches in the recipe"
        )
    return make(tuple(patch), width)


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean((|grad D(x)| - 1)^2) at x = mix * real + (1 - mix) * fake (Gulrajani et al. 2017, equation 3).

    ``mix`` holds one number per sample, uniform in [0, 1], in any shape; patches are 2D or 3D.
    """
    mix = mix.reshape(-1, *[1] * (real.dim() - 1))
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm = gradient.float().flatten(1).norm(dim=1)
    penalty: Tensor = ((norm - 1) ** 2).mean()
    return penalty
