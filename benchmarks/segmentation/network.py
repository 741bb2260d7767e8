"""HighRes3DNet (Li et al. 2017, IPMI, arXiv 1707.01992): residual blocks of growing dilation, no downsampling.

As ported to PyTorch by Pérez-García (fepegar/highresnet, MIT): a stem to 16 channels; three stages of three residual
blocks of two 3x3x3 convolutions (16, 32, 64 channels; dilation 1, 2, 4), each convolution after batch norm and ReLU,
skips padded with zero channels on both sides; then 1x1x1 to 80 and to 160 classes. The parameters' names are the
port's, so that its weights load as they are: an identity stands where the port has a layer that pads, which the
convolution does here without a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 160
RECEPTIVE_RADIUS = 43
"""Voxels: 1 + 6 (1 + 2 + 4)."""


class _Named(nn.Module):
    """A sequence under the name that the port gives it."""

    def __init__(self, name: str, layers: list[nn.Module]) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        for layers in self.children():
            x = layers(x)
        return x


def _after(inputs: int, outputs: int, size: int, *, activation: bool = True) -> _Named:
    """Convolution, then batch norm and ReLU: the stem and the classifier."""
    layers: list[nn.Module] = [nn.Identity()] if size > 1 else []
    layers += [nn.Conv3d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm3d(outputs)]
    return _Named("convolutional_block", layers + ([nn.ReLU(inplace=True)] if activation else []))


def _before(inputs: int, outputs: int, dilation: int) -> _Named:
    """Batch norm and ReLU, then a convolution: the inside of a residual block."""
    convolution = nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    layers = [nn.BatchNorm3d(inputs), nn.ReLU(inplace=True), nn.Identity(), convolution]
    return _Named("convolutional_block", layers)


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.padding = (outputs - inputs) // 2
        self.residual_block = nn.Sequential(_before(inputs, outputs, dilation), _before(outputs, outputs, dilation))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.residual_block(x)
        kept = slice(self.padding, out.shape[1] - self.padding)
        out[:, kept] += x
        return out


def _stage(inputs: int, outputs: int, dilation: int) -> _Named:
    blocks = [_Residual(inputs if index == 0 else outputs, outputs, dilation) for index in range(3)]
    return _Named("dilation_block", list(blocks))


class HighRes3DNet(nn.Module):
    """Logits (n, ``classes``, x, y, z) of a whitened image (n, 1, x, y, z)."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _after(1, 16, 3),
            _stage(16, 16, 1),
            _stage(16, 32, 2),
            _stage(32, 64, 4),
            _after(64, 80, 1),
            nn.Dropout3d(),
            _after(80, classes, 1, activation=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.block(x)
        return logits

    @torch.inference_mode()
    def labels(self, x: Tensor, slab: int = 8) -> Tensor:
        """The most probable class (n, x, y, z), int16; the classifier goes ``slab`` planes at a time, to bound memory.

        The network must be in eval mode: dropout is left out.
        """
        features = x
        for layers in self.block[:4]:
            features = layers(features)
        starts = range(0, features.shape[2], slab)
        parts = (features[:, :, start : start + slab] for start in starts)
        return torch.cat([self.block[6](self.block[4](part)).argmax(1).short() for part in parts], dim=1)
