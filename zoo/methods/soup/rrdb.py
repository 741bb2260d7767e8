"""SOUP's 3D RRDB generator with post-upsampling (Zhang et al. 2022), after ESRGAN (Wang et al. 2018, arXiv 1809.00219).

Residual-in-residual dense blocks on the LR grid, a pixel shuffle along the slice axis, two convolutions on the HR grid.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

RESIDUAL_SCALE = 0.2
"""ESRGAN's beta: what a dense block, and a block of three of them, adds to its input."""
_SLOPE = 0.2
_DENSE_INIT = 0.1
_HEAD_SCALE = 1e-3


def _conv(inputs: int, outputs: int, gain: float = 1.0) -> nn.Conv3d:
    conv = nn.Conv3d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE, nonlinearity="leaky_relu")
    with torch.no_grad():
        conv.weight.mul_(gain)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def _activated(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE, inplace=True)


class ResidualDenseBlock(nn.Module):
    """Five densely connected convolutions; (n, features, x, y, z) in and out."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(features + i * growth, growth, _DENSE_INIT) for i in range(4))
        self.last = _conv(features + 4 * growth, features, _DENSE_INIT)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for conv in self.convs:
            dense = torch.cat((dense, _activated(conv(dense))), dim=1)
        out: Tensor = x + RESIDUAL_SCALE * self.last(dense)
        return out


class RRDB(nn.Module):
    """Three residual dense blocks with a skip around them."""

    def __init__(self, features: int, growth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualDenseBlock(features, growth) for _ in range(3)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + RESIDUAL_SCALE * self.blocks(x)
        return out


def shuffle_slices(x: Tensor, factor: int) -> Tensor:
    """Pixel shuffle along the last axis: (n, c * factor, r, a, s) becomes (n, c, r, a, s * factor).

    Channel ``c * factor + k`` of slice ``i`` becomes channel ``c`` of slice ``i * factor + k``.
    """
    n, channels, r, a, s = x.shape
    split = x.reshape(n, channels // factor, factor, r, a, s)
    return split.permute(0, 1, 3, 4, 5, 2).reshape(n, channels // factor, r, a, s * factor)


class SoupRRDB(nn.Module):
    """Generator: LR (n, 1, r, a, s), scaled, in; (n, 1, r, a, s * factor) out.

    The output is a residual on the input with every slice repeated; drawn anew, the residual is near zero.
    """

    def __init__(self, factor: int, blocks: int = 3, features: int = 32, growth: int = 32) -> None:
        super().__init__()
        self.factor = factor
        self.stem = _conv(1, features)
        self.blocks = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.trunk = _conv(features, features)
        self.upsample = _conv(features, features * factor)
        self.fine = _conv(features, features)
        self.head = _conv(features, 1, _HEAD_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        features = stem + self.trunk(self.blocks(stem))
        fine = _activated(shuffle_slices(self.upsample(features), self.factor))
        out: Tensor = x.repeat_interleave(self.factor, dim=4) + self.head(_activated(self.fine(fine)))
        return out
