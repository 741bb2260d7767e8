"""SRResNet (Ledig et al. 2017) in 3D at a constant size, as the mDCSRN paper's baseline (Chen et al. 2020).

Conv 9 -> PReLU; residual blocks of Conv 3 -> BN -> PReLU -> Conv 3 -> BN; Conv 3 -> BN and a long skip; in place of the
upsampling a Conv 3 -> PReLU of the same size; Conv 9 to one channel.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn.functional import instance_norm

from mrsr_bench.zoo.layers import ConvToOne, blind_to_constants, look_near

RESIDUAL_SCALE = 0.03
"""Of what the network gives, with ``global_skip``: the 64 x 9^3 weights of the last convolution add up."""


class Norm(nn.BatchNorm3d):
    """Batch norm; with ``per_tile`` each sample is normalised by its own statistics, whatever the batch."""

    per_tile = False

    def forward(self, x: Tensor) -> Tensor:
        if self.per_tile:
            return instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        return super().forward(x)


class ResidualBlock(nn.Module):
    """(filters, x, y, z) in and out, the input added to what two convolutions make of it."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(filters, filters, 3, padding=1, bias=False),
            Norm(filters),
            nn.PReLU(filters),
            nn.Conv3d(filters, filters, 3, padding=1, bias=False),
            Norm(filters),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


class SRResNet3D(nn.Module):
    """(n, 1, x, y, z) regridded and scaled in, same shape out.

    ``global_skip``: for short trainings, all declared deviations. The input is added to the output and the last
    convolution, tapered, starts at zero; the first one starts local and blind to brightness; a block starts as the
    identity, its second norm at zero (Goyal et al. 2017, arXiv 1706.02677).
    """

    def __init__(self, filters: int = 64, blocks: int = 16, global_skip: bool = False) -> None:
        super().__init__()
        self.global_skip = global_skip
        self.stem = nn.Sequential(nn.Conv3d(1, filters, 9, padding=4), nn.PReLU(filters))
        self.blocks = nn.Sequential(*(ResidualBlock(filters) for _ in range(blocks)))
        self.join = nn.Sequential(nn.Conv3d(filters, filters, 3, padding=1, bias=False), Norm(filters))
        self.same_size = nn.Sequential(nn.Conv3d(filters, filters, 3, padding=1), nn.PReLU(filters))
        self.last = ConvToOne(filters, 9, tapered=global_skip)
        if global_skip:
            look_near(cast(nn.Conv3d, self.stem[0]))
            blind_to_constants(cast(nn.Conv3d, self.stem[0]))
            for block in self.blocks:
                nn.init.zeros_(cast(Norm, cast(ResidualBlock, block).body[-1]).weight)
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        joined = first + self.join(self.blocks(first))
        out: Tensor = self.last(self.same_size(joined))
        return x + RESIDUAL_SCALE * out if self.global_skip else out
