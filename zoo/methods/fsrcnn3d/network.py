"""FSRCNN (Dong et al. 2016) in 3D at a constant size, as the mDCSRN paper's baseline (Chen et al. 2020).

Conv 5 to d -> Conv 1 to s -> m x Conv 3 -> Conv 1 to d, each with a PReLU per channel -> Conv 9 to one channel.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mrsr_bench.zoo.layers import ConvToOne, blind_to_constants
from mrsr_bench.zoo.methods.mdcsrn.network import RESIDUAL_SCALE


def _layer(width: int, channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv3d(width, channels, kernel, padding=kernel // 2)
    act = nn.PReLU(channels)
    nn.init.kaiming_normal_(conv.weight, a=0.25)
    nn.init.zeros_(cast(Tensor, conv.bias))
    return nn.Sequential(conv, act)


class FSRCNN3D(nn.Module):
    """(n, 1, x, y, z) regridded and scaled in, same shape out.

    ``global_skip`` adds the input to the output, and then the last convolution starts at zero: a declared deviation
    for short trainings.
    """

    def __init__(self, features: int = 56, shrunk: int = 12, mappings: int = 4, global_skip: bool = False) -> None:
        super().__init__()
        self.global_skip = global_skip
        self.body = nn.Sequential(
            _layer(1, features, 5),
            _layer(features, shrunk, 1),
            *(_layer(shrunk, shrunk, 3) for _ in range(mappings)),
            _layer(shrunk, features, 1),
        )
        blind_to_constants(cast(nn.Conv3d, cast(nn.Sequential, self.body[0])[0]))
        self.last = ConvToOne(features, 9)
        nn.init.zeros_(cast(Tensor, self.last.bias))
        if global_skip:
            nn.init.zeros_(self.last.weight)
        else:
            nn.init.normal_(self.last.weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.body(x))
        return x + RESIDUAL_SCALE * out if self.global_skip else out
