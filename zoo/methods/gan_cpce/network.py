"""The CPCE generator (Shan et al. 2018): 3x3 convolutions down and up again, conveyed across by concatenation.

Nothing is padded: four valid convolutions take eight samples off each axis, four transposed convolutions put them
back, so the grid is kept, and an output within eight samples of the border sees fewer samples, as in the official code.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

DEPTH = 4
"""Convolutions on the way down, and transposed ones on the way up."""

SMALLEST = 2 * DEPTH + 1
"""Samples along an axis that four valid 3x3 convolutions need; a smaller slice is extended by its edge values."""


class CPCE(nn.Module):
    """Generator: (n, 1, h, w) regridded and scaled in, same shape out; without biases, ``filters`` wide.

    The output is ReLU(network(input)). With ``shortcut`` it is input + network(input), unclipped, and the last
    layer starts at zero: a declared deviation for short trainings. Without it the last layer starts as a positive
    average, since a ReLU that is zero everywhere would never learn. The other layers start as of He et al. 2015, which
    keeps eleven layers without biases or norms from fading.
    """

    def __init__(self, filters: int = 32, shortcut: bool = False) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.down = nn.ModuleList(
            nn.Conv2d(1 if level == 0 else filters, filters, 3, bias=False) for level in range(DEPTH)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(filters, filters, 3, bias=False) for _ in range(DEPTH - 1))
        self.merge = nn.ModuleList(nn.Conv2d(2 * filters, filters, 1, bias=False) for _ in range(DEPTH - 1))
        self.last = nn.ConvTranspose2d(filters, 1, 3, bias=False)
        for layer in (*self.down, *self.merge):
            nn.init.kaiming_normal_(cast(Tensor, layer.weight), nonlinearity="relu")
        for layer in self.up:
            nn.init.kaiming_normal_(cast(Tensor, layer.weight), mode="fan_out", nonlinearity="relu")
        if shortcut:
            nn.init.zeros_(self.last.weight)
        else:
            nn.init.uniform_(self.last.weight, 0, 2 / (9 * filters))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        missing = (max(0, SMALLEST - width), max(0, SMALLEST - height))
        grown = pad(x, (0, missing[0], 0, missing[1]), mode="replicate") if any(missing) else x
        out = self._paths(grown)[..., :height, :width]
        return x + out if self.shortcut else relu(out)

    def _paths(self, x: Tensor) -> Tensor:
        levels: list[Tensor] = []
        for conv in self.down:
            levels.append(conv(relu(levels[-1]) if levels else x))
        out = relu(levels.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            out = relu(merge(relu(torch.cat((up(out), levels.pop()), dim=1))))
        return cast(Tensor, self.last(out))
