"""The SOUP generator (Zhang et al. 2022, arXiv 2106.02599): one backbone between per-scale entry and exit modules.

Wiring, as in the authors' released network (package KevinSR 0.1.20), every convolution 3x3x3 with bias, "same":

- entry ``pre.s``: 1 -> w ReLU, w -> w ReLU, w -> 1 ReLU, plus the input;
- backbone: 1 -> w ReLU, then ``depth`` times w -> w ReLU;
- exit ``post.s``: w -> w ReLU, w -> 1; the output is the entry's result plus that.

A factor between two scales takes both neighbours: the release blends what their modules give (``blend="outputs"``),
equation 3 of the paper interpolates their parameters (``blend="parameters"``). Inside the ReLUs these differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mrsr_bench import UserError
from mrsr_bench.zoo.layers import blind_to_constants
from mrsr_bench.zoo.methods.soup.method import FACTORS, SCALES

INTEGER_TOLERANCE = 1e-4
"""A factor this near an integer is that integer: it came from voxel sizes that a header rounded."""

OFFICIAL_MAXIMUM = 10_000.0
"""What the release scales the maximum of LR to."""

_HEAD_SCALE = 1e-3
_ENTRY_BIAS = 0.1
_BACKBONE_SCALE = 0.2

Kernels = list[tuple[Tensor, Tensor]]


def scale_weights(factor: float, scales: Sequence[int]) -> dict[int, float]:
    """The non-zero weights of the modules of ``scales`` (ascending, consecutive) at ``factor``; they sum to 1.

    Below the first and above the last scale that one works alone; in between (1 - a, a) with a = factor - m.

    Raises:
        UserError: the factor is outside [1, 6].
    """
    low, high = FACTORS
    if not low - INTEGER_TOLERANCE <= factor <= high + INTEGER_TOLERANCE:
        raise UserError(
            f"the SOUP networks upscale by factors from {low:g} to {high:g} along the slice axis, not by {factor:g}; "
            "choose another target spacing or another method"
        )
    if abs(factor - round(factor)) <= INTEGER_TOLERANCE:
        factor = round(factor)
    if factor <= scales[0]:
        return {scales[0]: 1.0}
    if factor >= scales[-1]:
        return {scales[-1]: 1.0}
    below = int(factor)
    share = factor - below
    return {below: 1.0 - share, below + 1: share} if share else {below: 1.0}


def _conv(inputs: int, outputs: int) -> nn.Conv3d:
    """A convolution drawn for ReLU (He et al. 2015): thirteen in a row without normalisation keep their signal."""
    conv = nn.Conv3d(inputs, outputs, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(cast(Tensor, conv.bias))
    return conv


def _apply(x: Tensor, kernels: Kernels, *, last_relu: bool = True) -> Tensor:
    """Convolutions with ReLU in between, and after the last one too if asked."""
    for i, (weight, bias) in enumerate(kernels):
        x = functional.conv3d(x, weight, bias, padding=1)
        if last_relu or i + 1 < len(kernels):
            x = functional.relu_(x)
    return x


class SoupGenerator(nn.Module):
    """Generator: (n, 1, R, A, S) regridded and scaled in, S being the degraded axis; same shape out.

    ``scales`` are the integer factors that have modules of their own, ascending and consecutive; with a single one the
    factor is not asked for. Drawn anew, the network gives its input to within a thousandth, with gradients everywhere.
    """

    def __init__(
        self, scales: Sequence[int] = SCALES, blend: str = "outputs", features: int = 32, depth: int = 12
    ) -> None:
        super().__init__()
        if blend not in ("outputs", "parameters"):
            raise UserError(f"blend is outputs or parameters, not {blend!r}; correct the recipe")
        self.scales, self.blend = tuple(scales), blend
        w = features
        self.pre = nn.ModuleDict({str(s): nn.ModuleList((_conv(1, w), _conv(w, w), _conv(w, 1))) for s in self.scales})
        self.backbone = nn.ModuleList((_conv(1, w), *(_conv(w, w) for _ in range(depth))))
        self.post = nn.ModuleDict({str(s): nn.ModuleList((_conv(w, w), _conv(w, 1))) for s in self.scales})
        self._start_at_the_input()

    @torch.no_grad()
    def _start_at_the_input(self) -> None:
        for first in (self.backbone[0], *(cast(nn.ModuleList, module)[0] for module in self.pre.values())):
            blind_to_constants(cast(nn.Conv3d, first))
        for conv in self.backbone[
            1:
        ]:  # each starts by handing its features on (Zagoruyko & Komodakis 2017, 1706.00388)
            weight = cast(nn.Conv3d, conv).weight
            weight.mul_(_BACKBONE_SCALE).add_(nn.init.dirac_(torch.empty_like(weight)))
        # The entry ends in a ReLU over one channel: with a bias above zero it lives, and the exit takes that bias off.
        for modules, bias in ((self.pre, _ENTRY_BIAS), (self.post, -_ENTRY_BIAS)):
            for module in modules.values():
                last = cast(nn.Conv3d, cast(nn.ModuleList, module)[-1])
                last.weight.mul_(_HEAD_SCALE)
                cast(Tensor, last.bias).fill_(bias)

    def _kernels(self, module: nn.Module) -> Kernels:
        return [(conv.weight, cast(Tensor, conv.bias)) for conv in cast(nn.ModuleList, module).children()]  # type: ignore[misc]

    def _blended(self, modules: nn.ModuleDict, weights: dict[int, float]) -> list[tuple[float, Kernels]]:
        """The modules at work with their weights; with ``blend="parameters"`` one, of interpolated parameters."""
        chosen = [(weight, self._kernels(modules[str(scale)])) for scale, weight in weights.items()]
        if self.blend == "outputs" or len(chosen) == 1:
            return chosen
        (_, low), (share, high) = chosen
        mixed = [
            (torch.lerp(w0, w1, share), torch.lerp(b0, b1, share)) for (w0, b0), (w1, b1) in zip(low, high, strict=True)
        ]
        return [(1.0, mixed)]

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        """``x`` (n, 1, R, A, S) super-resolved for LR spacing over HR spacing = ``factor`` along S.

        Raises:
            UserError: the factor is outside [1, 6].
        """
        if factor is None:
            if len(self.scales) > 1:
                raise TypeError("a multi-scale SOUP network is called with the factor")
            factor = self.scales[0]
        weights = {self.scales[0]: 1.0} if len(self.scales) == 1 else scale_weights(factor, self.scales)
        pre = x + sum(w * _apply(x, kernels) for w, kernels in self._blended(self.pre, weights))
        features = _apply(pre, self._kernels(self.backbone))
        residual = sum(
            w * _apply(features, kernels, last_relu=False) for w, kernels in self._blended(self.post, weights)
        )
        out: Tensor = pre + residual
        return out


class OfficialSoupGenerator(SoupGenerator):
    """The authors' released network with their scaling: LR minimum to maximum becomes 0 to 10000, slices come first.

    Parameters bear the release's names and layout, (out, in, z, x, y). Minimum and maximum are those of the volume
    shown to `observe`, else those of ``x``; a constant volume passes through.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limits: tuple[float, float] | None = None

    def observe(self, image: Tensor | None) -> None:
        """Take the intensity limits of a whole volume, so that all its tiles are scaled alike; None: forget them."""
        self.limits = None if image is None else (float(image.min()), float(image.max()))

    def forward(self, x: Tensor, factor: float | None = None) -> Tensor:
        low, high = self.limits or (float(x.min()), float(x.max()))
        if high <= low:
            return x
        scale = OFFICIAL_MAXIMUM / (high - low)
        moved = ((x - low) * scale).permute(0, 1, 4, 2, 3).contiguous()
        out = super().forward(moved, factor).permute(0, 1, 3, 4, 2)
        return out / scale + low
