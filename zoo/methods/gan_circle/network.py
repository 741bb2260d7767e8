"""The GAN-CIRCLE generator (You et al. 2019) at stride 1: a chain of features, two branches, and the input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SLOPE = 0.1
BRANCH_A, BRANCH_B, MERGED = 24, 8, 32


def _conv(channels: int, out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPE))


class CircleGenerator(nn.Module):
    """Generator: (n, 1, h, w) regridded and scaled in, same shape out; ``F`` of the cycle is one more of it.

    Feature blocks (3x3 convolution, leaky ReLU 0.1, ``dropout``) follow one another with ``widths`` channels; all
    their outputs together go through the branches A (1x1 to 24) and B (1x1 to 8, 3x3 to 8), are merged and
    reconstructed (3x3 to 32, 3x3 to 1), and the input is added. With ``zero_start`` the last convolution starts at
    zero, so that the network starts as the identity.
    """

    def __init__(self, widths: Sequence[int], dropout: float = 0.2, zero_start: bool = False) -> None:
        super().__init__()
        entries = (1, *widths[:-1])
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(entry, width, 3), nn.Dropout(dropout))
            for entry, width in zip(entries, widths, strict=True)
        )
        everything = sum(widths)
        self.branch_a = _conv(everything, BRANCH_A, 1)
        self.branch_b = nn.Sequential(_conv(everything, BRANCH_B, 1), _conv(BRANCH_B, BRANCH_B, 3))
        self.merge = _conv(BRANCH_A + BRANCH_B, MERGED, 3)
        self.last = nn.Conv2d(MERGED, 1, 3, padding=1)
        if zero_start:
            nn.init.zeros_(self.last.weight)
            assert self.last.bias is not None
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        features, chain = [], x
        for block in self.blocks:
            chain = block(chain)
            features.append(chain)
        joined = torch.cat(features, dim=1)
        branches = torch.cat((self.branch_a(joined), self.branch_b(joined)), dim=1)
        out: Tensor = x + self.last(self.merge(branches))
        return out
