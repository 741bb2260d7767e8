"""The mDCSRN generator (Chen et al. 2020, arXiv 2003.01217), its reconstruction variants, at any depth and width.

Wiring: a 3x3x3 stem to 2k channels; blocks of densely connected units (BN -> ELU -> Conv); every block after the
first reads cat(stem, all earlier blocks) through a 1x1x1 compressor to 2k; one 1x1x1 convolution reads everything.
Convolutions are without bias except the stem and the reconstruction.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mrsr_bench.zoo.methods.mdcsrn.lean import lean_forward

BOTTLENECK_WIDTH = 4
"""A unit whose input is wider than this many growth rates gets a 1x1x1 bottleneck to that width."""

RESIDUAL_SCALE = 0.1
"""With a global skip, the residual in units of this share of the input's range: output = input + 0.1 network(input)."""


class NormAct(nn.Module):
    """Batch norm, then ELU: the pre-activation of every convolution.

    ``per_tile`` normalises each sample by its own statistics: train mode at batch 1, whatever the batch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)
        self.per_tile = False

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.per_tile:
            x = nn.functional.instance_norm(x, weight=norm.weight, bias=norm.bias, eps=norm.eps)
        else:
            x = norm(x)
        return nn.functional.elu(x)


class DenseUnit(nn.Module):
    """New features (growth, x, y, z) from all features so far (width, x, y, z)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        squeezed = BOTTLENECK_WIDTH * growth
        self.bottleneck: nn.Module | None = None
        if width > squeezed:
            self.bottleneck = nn.Sequential(NormAct(width), nn.Conv3d(width, squeezed, 1, bias=False))
            width = squeezed
        self.act = NormAct(width)
        self.conv = nn.Conv3d(width, growth, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        if self.bottleneck is not None:
            features = self.bottleneck(features)
        out: Tensor = self.conv(self.act(features))
        return out


class DenseBlock(nn.Module):
    """``units`` dense units; the output holds the input: width + units * growth channels."""

    def __init__(self, width: int, growth: int, units: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(DenseUnit(width + i * growth, growth) for i in range(units))

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = torch.cat((x, unit(x)), dim=1)
        return x


class MDCSRN(nn.Module):
    """Generator: (n, 1, x, y, z) regridded and scaled in, same shape out.

    ``head="direct"`` combines all levels by one 1x1x1 convolution; ``head="reconstruction"`` is SRDenseNet's
    (1x1x1 to 8k, BN + ELU, 3x3x3). ``global_skip`` adds the input to the output, and then the last convolution
    starts at zero: a declared deviation for short trainings.
    """

    def __init__(
        self, blocks: int, units: int, growth: int = 12, head: str = "direct", global_skip: bool = False
    ) -> None:
        super().__init__()
        stem = 2 * growth
        level = stem + units * growth
        self.global_skip = global_skip
        self.stem = nn.Conv3d(1, stem, 3, padding=1)
        self.compressors = nn.ModuleList(nn.Conv3d(stem + i * level, stem, 1, bias=False) for i in range(1, blocks))
        self.blocks = nn.ModuleList(DenseBlock(stem, growth, units) for _ in range(blocks))
        everything = stem + blocks * level
        if head == "direct":
            self.head: nn.Module = nn.Conv3d(everything, 1, 1)
            last = self.head
        elif head == "reconstruction":
            wide = 8 * growth
            last = nn.Conv3d(wide, 1, 3, padding=1)
            self.head = nn.Sequential(nn.Conv3d(everything, wide, 1, bias=False), NormAct(wide), last)
        else:
            raise ValueError(f"head is direct or reconstruction, not {head!r}")
        if global_skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))

    def normalisations(self) -> list[NormAct]:
        """Every BN -> ELU of the network."""
        return [module for module in self.modules() if isinstance(module, NormAct)]

    def _can_be_lean(self, x: Tensor) -> bool:
        per_tile = any(act.per_tile for act in self.normalisations())
        return not self.training and not torch.is_grad_enabled() and x.device.type == "cpu" and not per_tile

    def forward(self, x: Tensor) -> Tensor:
        if self._can_be_lean(x):
            dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype
            out = lean_forward(self, x, dtype)
        else:
            out = self._plain_forward(x)
        return x + RESIDUAL_SCALE * out if self.global_skip else out

    def _plain_forward(self, x: Tensor) -> Tensor:
        levels = [self.stem(x)]
        for i, block in enumerate(self.blocks):
            entry = levels[0] if i == 0 else self.compressors[i - 1](torch.cat(levels, dim=1))
            levels.append(block(entry))
        out: Tensor = self.head(torch.cat(levels, dim=1))
        return out
