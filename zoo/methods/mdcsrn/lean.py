"""The mDCSRN generator at inference on a CPU: the same arithmetic without concatenations.

Features live channels-last in one buffer per block that each unit writes its part of; batch norm with running
statistics is one multiply-add, ELU works in place, and 1x1x1 convolutions are matrix products, summed over levels
instead of reading their concatenation. Same result as `MDCSRN.forward` to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, elu_

if TYPE_CHECKING:
    from mrsr_bench.zoo.methods.mdcsrn.network import MDCSRN, DenseBlock, DenseUnit, NormAct


def _affine(act: NormAct, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    norm = act.norm
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    shift = norm.bias - cast(Tensor, norm.running_mean) * scale
    return scale.to(dtype), shift.to(dtype)


def _activated(act: NormAct, features: Tensor, scratch: Tensor) -> Tensor:
    """BN -> ELU of (n, x, y, z, c) features, written to the front of ``scratch``."""
    scale, shift = _affine(act, features.dtype)
    out = scratch[: features.numel()].view(features.shape)
    return elu_(torch.addcmul(shift, features, scale, out=out))


def _conv3(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A 3x3x3 convolution of channels-last (n, x, y, z, c) features."""
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return conv3d(x.movedim(4, 1), conv.weight.to(x.dtype), bias, padding=1).movedim(1, 4)


def _weight1(conv: nn.Conv3d, dtype: torch.dtype) -> Tensor:
    """The (in, out) matrix of a 1x1x1 convolution."""
    return conv.weight.flatten(1).t().to(dtype)


def _unit(unit: DenseUnit, features: Tensor, scratch: Tensor) -> Tensor:
    if unit.bottleneck is not None:
        act, conv = cast("tuple[NormAct, nn.Conv3d]", tuple(cast(nn.Sequential, unit.bottleneck)))
        features = torch.matmul(_activated(act, features, scratch), _weight1(conv, features.dtype))
    return _conv3(unit.conv, _activated(unit.act, features, scratch))


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
    weight = _weight1(conv, levels[0].dtype)
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
        out = _conv3(last, _activated(act, combined, torch.empty_like(combined).flatten()))
    return out.movedim(4, 1)
