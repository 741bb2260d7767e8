"""SRDenseNet (Tong et al. 2017) in 3D at a constant size, as the mDCSRN paper's baseline (Chen et al. 2020).

A 3x3x3 stem to 2k channels; chained blocks, whose first unit reads the previous block and whose later units read the
block's own features so far, so that a block's output excludes its input; the head reads stem and all blocks:
1x1x1 to 8k -> BN -> ELU -> 3x3x3.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, elu_

from mrsr_bench.zoo.channels_last import activated, convolved, matrix_of
from mrsr_bench.zoo.layers import blind_to_constants
from mrsr_bench.zoo.methods.mdcsrn.network import RESIDUAL_SCALE, NormAct


class Block(nn.Module):
    """``units`` convolutions, each followed by ELU: (width, x, y, z) in, (units * growth, x, y, z) out."""

    def __init__(self, width: int, growth: int, units: int) -> None:
        super().__init__()
        self.width = units * growth
        self.entry = nn.Conv3d(width, growth, 3, padding=1)
        self.units = nn.ModuleList(nn.Conv3d(growth * i, growth, 3, padding=1) for i in range(1, units))

    def forward(self, x: Tensor) -> Tensor:
        features = elu(self.entry(x))
        for unit in self.units:
            features = torch.cat((features, elu(unit(features))), dim=1)
        return features


class SRDenseNet3D(nn.Module):
    """(n, 1, x, y, z) regridded and scaled in, same shape out.

    ``global_skip`` adds the input to the output, and then the last convolution starts at zero: a declared deviation
    for short trainings.
    """

    def __init__(self, blocks: int = 8, units: int = 4, growth: int = 12, global_skip: bool = False) -> None:
        super().__init__()
        stem, level, wide = 2 * growth, units * growth, 8 * growth
        self.global_skip = global_skip
        self.stem = nn.Conv3d(1, stem, 3, padding=1)
        self.blocks = nn.ModuleList(Block(stem if i == 0 else level, growth, units) for i in range(blocks))
        self.bottleneck = nn.Conv3d(stem + blocks * level, wide, 1, bias=False)
        self.act = NormAct(wide)
        self.last = nn.Conv3d(wide, 1, 3, padding=1)
        # Thirty-three convolutions in a row without normalisation keep their signal only if drawn for it.
        for conv in (self.stem, *(layer for block in self.blocks for layer in block.modules())):
            if isinstance(conv, nn.Conv3d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, conv.bias))
        blind_to_constants(self.stem)
        if global_skip:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, x: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled() or self.act.per_tile:
            levels = [elu(self.stem(x))]
            for block in self.blocks:
                levels.append(block(levels[-1]))
            out: Tensor = self.last(self.act(self.bottleneck(torch.cat(levels, dim=1))))
        else:
            kind = x.device.type
            out = self._lean(x, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype)
        return x + RESIDUAL_SCALE * out if self.global_skip else out

    def _lean(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """The output before a global skip; every level is added to the bottleneck's sum and let go."""
        level = elu_(convolved(self.stem, x.movedim(1, 4).to(dtype)))
        blocks = [cast("Block", block) for block in self.blocks]
        widths = [level.shape[-1], *(block.width for block in blocks)]
        shares = torch.split(matrix_of(self.bottleneck, dtype), widths)
        mixed = level.flatten(0, 3) @ shares[0]
        for block, share in zip(blocks, shares[1:], strict=True):
            first = elu_(convolved(block.entry, level))
            grown = first.shape[-1]
            level = first.new_empty(*first.shape[:-1], block.width)
            level[..., :grown] = first
            for unit in block.units:
                features = level[..., :grown].contiguous()
                new = elu_(convolved(cast("nn.Conv3d", unit), features))
                level[..., grown : grown + new.shape[-1]] = new
                grown += new.shape[-1]
            mixed.addmm_(level.flatten(0, 3), share)
        wide = mixed.view(*level.shape[:-1], -1)
        return convolved(self.last, activated(self.act, wide, mixed.flatten())).movedim(4, 1)
