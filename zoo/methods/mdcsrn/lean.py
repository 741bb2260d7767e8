"""The mDCSRN generator at inference on a CPU: the same arithmetic without concatenations.

Features live channels-last in one buffer per block that each unit writes its part of; batch norm with running
statistics is one multiply-add, ELU works in place, and 1x1x1 convolutions are matrix products, summed over levels
instead of reading their concatenation. Same result as `MDCSRN.forward` to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d

from mrsr_bench.zoo.channels_last import activated, convolved, matrix_of

if TYPE_CHECKING:
    from mrsr_bench.zoo.methods.mdcsrn.network import MDCSRN, DenseBlock, DenseUnit, NormAct


def _unit(unit: DenseUnit, features: Tensor, scratch: Tensor) -> Tensor:
    if unit.bottleneck is not None:
        act, conv = cast("tuple[NormAct, nn.Conv3d]", tuple(cast(nn.Sequential, unit.bottleneck)))
        features = torch.matmul(activated(act, features, scratch), matrix_of(conv, features.dtype))
    return convolved(unit.conv, activated(unit.act, features, scratch))


def _block(block: DenseBlock, entry: Tensor, scratch: Tensor) -> Tensor:
    width, growth = entry.shape[-1], cast("DenseUnit", block.units[0]).conv.out_channels
    buffer = entry.new_empty(*entry.shape[:-1], width + len(block.units) * growth)
    buffer[..., :width] = entry
    for unit in block.units:
        buffer[..., width : width + growth] = _unit(cast("DenseUnit", unit), buffer[..., :width], scratch)
        width += growth
    return buffer


def _over_levels(conv: nn.Conv3d, levels: list[Tensor]) -> Tensor:
    """A 1x1x1 convolution of the concatenation of ``levels``, without making it."""
    weight = matrix_of(conv, levels[0].dtype)
    parts = torch.split(weight, [level.shape[-1] for level in levels])
    flat = [level.reshape(-1, level.shape[-1]) for level in levels]
    total: Tensor = flat[0] @ parts[0]
    if conv.bias is not None:
        total += conv.bias.to(total.dtype)
    for level, part in zip(flat[1:], parts[1:], strict=True):
        total.addmm_(level, part)
    return total.view(*levels[0].shape[:-1], -1)


def lean_forward(network: MDCSRN, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The network's output before a global skip, (n, 1, x, y, z) in ``dtype``."""
    stem = network.stem
    assert stem.bias is not None
    first = conv3d(x.to(dtype), stem.weight.to(dtype), stem.bias.to(dtype), padding=1)
    levels = [first.movedim(1, 4).contiguous()]
    widest = max(act.norm.num_features for act in network.normalisations())
    scratch = levels[0].new_empty(levels[0][..., 0].numel() * widest)
    for index, block in enumerate(network.blocks):
        entry = levels[0] if index == 0 else _over_levels(cast(nn.Conv3d, network.compressors[index - 1]), levels)
        levels.append(_block(cast("DenseBlock", block), entry, scratch))
    if isinstance(network.head, nn.Conv3d):
        out = _over_levels(network.head, levels)
    else:
        wide, act, last = cast("tuple[nn.Conv3d, NormAct, nn.Conv3d]", tuple(cast(nn.Sequential, network.head)))
        combined = _over_levels(wide, levels)
        out = convolved(last, activated(act, combined, torch.empty_like(combined).flatten()))
    return out.movedim(4, 1)
