"""Pieces of networks at inference on features (n, x, y, z, channels), where 1x1x1 convolutions are matrix products.

Same results as the modules that they read their parameters from, to rounding, with less memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, elu_

if TYPE_CHECKING:
    from mrsr_bench.zoo.methods.mdcsrn.network import NormAct


def _affine(act: NormAct, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    norm = act.norm
    scale = norm.weight * torch.rsqrt(cast(Tensor, norm.running_var) + norm.eps)
    shift = norm.bias - cast(Tensor, norm.running_mean) * scale
    return scale.to(dtype), shift.to(dtype)


def activated(act: NormAct, features: Tensor, scratch: Tensor) -> Tensor:
    """BN -> ELU of (n, x, y, z, c) features, written to the front of ``scratch``."""
    scale, shift = _affine(act, features.dtype)
    out = scratch[: features.numel()].view(features.shape)
    return elu_(torch.addcmul(shift, features, scale, out=out))


def convolved(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """A 3x3x3 convolution of channels-last (n, x, y, z, c) features."""
    bias = None if conv.bias is None else conv.bias.to(x.dtype)
    return conv3d(x.movedim(4, 1), conv.weight.to(x.dtype), bias, padding=1).movedim(1, 4)


def matrix_of(conv: nn.Conv3d, dtype: torch.dtype) -> Tensor:
    """The (in, out) matrix of a 1x1x1 convolution."""
    return conv.weight.flatten(1).t().to(dtype)
