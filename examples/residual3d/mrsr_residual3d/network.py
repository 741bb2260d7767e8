"""Residual blocks without normalisation (Lim et al. 2017, arXiv 1707.02921) in three dimensions, at a constant size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu


class Block(nn.Module):
    """Convolution, ReLU, convolution; a share of the result is added to the input."""

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.first = nn.Conv3d(features, features, 3, padding=1)
        self.second = nn.Conv3d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as ``x``."""
        out: Tensor = x + self.share * self.second(relu(self.first(x)))
        return out


class Residual3D(nn.Module):
    """(n, 1, x, y, z), regridded and scaled by mrsr-bench, in; the same shape out."""

    def __init__(self, features: int = 24, blocks: int = 4, share: float = 0.1) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, features, 3, padding=1)
        self.body = nn.Sequential(*(Block(features, share) for _ in range(blocks)))
        self.tail = nn.Conv3d(features, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The SR patch: the input plus what the network adds to it."""
        found = self.head(x)
        out: Tensor = x + self.tail(found + self.body(found))
        return out
