"""Layers that several networks are built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad


def taper(kernel: int, sigma: float = 1.0) -> Tensor:
    """(kernel, kernel, kernel): a Gaussian of ``sigma`` voxels, 1 at the centre, and kernel^-3 everywhere on top."""
    away = torch.arange(kernel) - kernel // 2
    square = away[:, None, None] ** 2 + away[None, :, None] ** 2 + away[None, None, :] ** 2
    return torch.exp(-square / (2 * sigma**2)) + kernel**-3


class ConvToOne(nn.Conv3d):
    """A large k x k x k convolution of the same size to one channel: ``nn.Conv3d`` with the same parameters.

    Libraries fill their vectors with output channels, so one channel wastes almost all of a processor. Here the k
    planes of the kernel are the k output channels of a 2D convolution, whose results are added where they belong: the
    same sum, several times faster on a CPU.

    ``tapered``: each weight counts as `taper` says for its distance from the centre. The functions it can be are the
    same, but an optimiser that moves every weight by as much (Adam) then moves the few near ones first, and not, with
    thousands of far ones at once, the brightness of the whole image.
    """

    taper: Tensor | None

    def __init__(self, channels: int, kernel: int, *, tapered: bool = False) -> None:
        super().__init__(channels, 1, kernel, padding=kernel // 2)
        self.register_buffer("taper", taper(kernel) if tapered else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, x, y, z) to (n, 1, x, y, z)."""
        assert self.bias is not None
        n, channels, depth, height, width = x.shape
        kernel, reach = self.kernel_size[0], self.kernel_size[0] // 2
        planes = x.movedim(2, 1).reshape(n * depth, channels, height, width)
        whole = self.weight[0] if self.taper is None else self.weight[0] * self.taper
        weight = whole.movedim(1, 0).contiguous(memory_format=torch.channels_last)
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


@torch.no_grad()
def look_near(conv: nn.Conv3d, sigma: float = 1.5) -> None:
    """Let every filter of a large first layer start with its weights near the centre, at the variance that it had.

    A 9x9x9 filter of independent weights is a random blur of 729 voxels, in which no edge can be placed.
    """
    shape = taper(conv.kernel_size[0], sigma)
    conv.weight.mul_(shape * (shape.numel() / shape.square().sum()).sqrt())
