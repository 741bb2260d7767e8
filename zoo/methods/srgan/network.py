"""The SRResNet generator of SRGAN (Ledig et al. 2017) for one channel, isotropic or along the height alone.

Wiring: Conv 9x9 to 64, PReLU; 16 residual blocks (Conv3-BN-PReLU-Conv3-BN, plus the input); Conv3-BN, plus the stem;
one stage per factor of two (Conv3, pixel shuffle, PReLU); Conv 9x9 to 1. Convolutions before a batch norm have no bias.
An anisotropic stage shuffles pairs of channels into the height (Sood and Rusu 2019).
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

Skip = Literal["none", "edges", "first"]

CUBIC_A = -0.5
RESIDUAL_SCALE = 0.1
"""With a global skip, the residual is in units of this share of the input's range."""


class ResidualBlock(nn.Module):
    """Conv3-BN-PReLU-Conv3-BN, plus the input: (n, width, h, w) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.body(x))


class HeightShuffle(nn.Module):
    """(n, 2c, h, w) to (n, c, 2h, w): channel 2i is the upper, channel 2i + 1 the lower of two new rows."""

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        rows = x.reshape(n, channels // 2, 2, height, width).transpose(2, 3)
        return rows.reshape(n, channels // 2, 2 * height, width)


def cubic_taps(factor: int, convention: Skip) -> Tensor:
    """Cubic convolution (Keys, a = -0.5) to ``factor`` times the samples, as one kernel per new sample of an old one.

    ``edges``: voxel edges agree, the first new sample lies (factor - 1) / 2 new voxels before the first old one;
    ``first``: both first samples agree. Shape (factor, 5): the old samples from two before to two after.
    """
    shift = (factor - 1) / 2 if convention == "edges" else 0.0
    place = (torch.arange(factor, dtype=torch.float64) - shift) / factor
    distance = (place[:, None] - torch.arange(-2, 3)).abs()
    near = (CUBIC_A + 2) * distance**3 - (CUBIC_A + 3) * distance**2 + 1
    far = CUBIC_A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0)).float()


def cubic_rows(x: Tensor, factor: int, convention: Skip) -> Tensor:
    """(n, 1, h, w) to (n, 1, h * factor, w) by `cubic_taps`, edges replicated."""
    if factor == 1:
        return x
    taps = cubic_taps(factor, convention).to(x)
    padded = nn.functional.pad(x, (0, 0, 2, 2), mode="replicate")
    rows = nn.functional.conv2d(padded, taps[:, None, :, None])
    return rows.transpose(1, 2).reshape(x.shape[0], 1, x.shape[2] * factor, x.shape[3])


class SRResNet(nn.Module):
    """Generator: LR slices (n, 1, h, w), scaled, in; (n, 1, h * scale[0], w * scale[1]) out.

    ``scale`` is (4, 4), (8, 8), (4, 1) or (8, 1): any power of two, alike along both axes or along the height alone.
    ``global_skip`` adds the cubic interpolation of the input to a tenth of the output, and the last convolution starts
    at zero, so that a short training starts at the interpolation (a declared deviation): ``edges`` for LR whose voxel
    edges agree with HR's, ``first`` for LR whose first sample is HR's.
    """

    def __init__(self, scale: tuple[int, int], width: int = 64, blocks: int = 16, global_skip: Skip = "none") -> None:
        super().__init__()
        height, across = scale
        stages = height.bit_length() - 1
        if height != 2**stages or stages < 1 or across not in (1, height):
            raise ValueError(f"scale is a power of two, twice or beside 1; got {scale}")
        if global_skip not in ("none", "edges", "first"):
            raise ValueError(f"global_skip is none, edges or first; got {global_skip!r}")
        self.scale, self.global_skip = (height, across), global_skip
        self.stem = nn.Sequential(nn.Conv2d(1, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        flat = across == 1
        upsampling: list[nn.Module] = []
        for _ in range(stages):
            upsampling += [
                nn.Conv2d(width, width * (2 if flat else 4), 3, padding=1),
                HeightShuffle() if flat else nn.PixelShuffle(2),
                nn.PReLU(),
            ]
        self.upsampling = nn.Sequential(*upsampling)
        self.head = nn.Conv2d(width, 1, 9, padding=4)
        if global_skip != "none":
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(cast(Tensor, self.head.bias))

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        out: Tensor = self.head(self.upsampling(stem + self.body(stem)))
        if self.global_skip == "none":
            return out
        rows = cubic_rows(x, self.scale[0], self.global_skip)
        both = cubic_rows(rows.transpose(2, 3), self.scale[1], self.global_skip).transpose(2, 3)
        return both + RESIDUAL_SCALE * out
