"""Critics and discriminators of the adversarial methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Discriminator3D(nn.Module):
    """mDCSRN-GAN's critic: eight 3x3x3 convolutions, widths w, w, 2w, 2w, 4w, 4w, 8w, 8w, every second one strided.

    Leaky ReLU 0.2; layer norm over channels and space with one gain and offset per channel on all but the first;
    flatten, FC 16w, leaky ReLU, FC 1, no sigmoid. The paper's width is 64. Input (n, 1, *patch), output (n,).
    """

    def __init__(self, patch: tuple[int, int, int], width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, size = 1, list(patch)
        for index in range(8):
            out, stride = width * 2 ** (index // 2), 1 + index % 2
            layers.append(nn.Conv3d(channels, out, 3, stride=stride, padding=1))
            if index > 0:
                layers.append(nn.GroupNorm(1, out))
            layers.append(nn.LeakyReLU(0.2))
            channels, size = out, [(n - 1) // stride + 1 for n in size]
        self.features = nn.Sequential(*layers)
        flat = channels * size[0] * size[1] * size[2]
        self.judge = nn.Sequential(nn.Linear(flat, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.judge(self.features(x).flatten(1)).squeeze(1)
        return out


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """mean((|grad D(x)| - 1)^2) at x = mix * real + (1 - mix) * fake (Gulrajani et al. 2017, equation 3).

    ``mix`` is (n, 1, 1, 1, 1), uniform in [0, 1].
    """
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm = gradient.float().flatten(1).norm(dim=1)
    penalty: Tensor = ((norm - 1) ** 2).mean()
    return penalty
