"""Layers that several networks are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


class ConvToOne(nn.Conv3d):
    """A large k x k x k convolution of the same size to one channel: ``nn.Conv3d`` with the same parameters.

    Libraries fill their vectors with output channels, so one channel wastes almost all of a processor. Here the k
    planes of the kernel are the k output channels of a 2D convolution, whose results are added where they belong: the
    same sum, several times faster on a CPU.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, x, y, z) to (n, 1, x, y, z)."""
        assert self.bias is not None
        n, channels, depth, height, width = x.shape
        kernel, reach = self.kernel_size[0], self.kernel_size[0] // 2
        planes = x.movedim(2, 1).reshape(n * depth, channels, height, width)
        weight = self.weight[0].movedim(1, 0).contiguous(memory_format=torch.channels_last)
        parts = conv2d(planes.contiguous(memory_format=torch.channels_last), weight, padding=reach)
        parts = pad(parts.view(n, depth, kernel, height, width), (0, 0, 0, 0, 0, 0, reach, reach))
        out = sum((parts[:, i : i + depth, i] for i in range(1, kernel)), start=parts[:, :depth, 0])
        return out[:, None] + self.bias


@torch.no_grad()
def blind_to_constants(conv: nn.Conv2d | nn.Conv3d) -> None:
    """Take the mean off every filter of a first layer, so that at the start it answers to edges and not to brightness.

    Brightness is most of an image's energy and nothing that super-resolution has to learn; a chain without
    normalisation that begins with it trains several times slower.
    """
    conv.weight.sub_(conv.weight.mean(dim=tuple(range(1, conv.weight.dim())), keepdim=True))
