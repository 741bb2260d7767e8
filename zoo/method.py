"""What a method says about itself (plain data) and what it does (LR volume + target grid -> SR volume)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from mrsr_bench.volume import Grid, Volume

BatchNormMode = Literal["eval", "tile"]
"""``eval``: running statistics; ``tile``: statistics of each tile by itself (train mode at batch 1)."""


@dataclass(frozen=True)
class Tiling:
    """How a network walks over a volume: tiles with a ``margin`` discarded on every inner side.

    ``window``: tiles are cubes of that many voxels a side (``tile`` mode), or of any shape of at most ``window``^3
    voxels (``eval`` mode, where the shape changes nothing but time and memory). A margin of at least the receptive
    field's radius makes tiles equal to the whole volume in ``eval`` mode.
    """

    window: int = 96
    margin: int = 17
    batch_norm: BatchNormMode = "eval"


@dataclass(frozen=True)
class MethodSpec:
    """A registered method: everything about it that needs no torch.

    ``build`` is ``"module:function"``; the function takes ``arguments`` as keywords and returns the network
    (``kind="network"``), or an `Upscaler` (``kind="interpolation"``). ``recipes`` maps a recipe's name to the YAML file
    beside the method. ``overridable`` names the constructor arguments that a recipe may set without making another
    method. ``alias_for`` lists names, best first, for names that resolve to whatever has weights.
    """

    name: str
    kind: Literal["interpolation", "network"]
    summary: str
    paper: str
    build: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    dims: int = 3
    input: Literal["native", "regridded"] = "regridded"
    regrid: str = "linear"
    tasks: tuple[str, ...] = ()
    tiling: Tiling = Tiling()
    normalisation: str = "LR / c, c = 99.9th percentile of the LR voxels above the LR mean"
    parameters: int | None = None
    licence: str = "Apache-2.0"
    alias_for: tuple[str, ...] = ()
    generator: str | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    overridable: tuple[str, ...] = ()
    folder: str | None = None
    version: int = 1


class Upscaler(Protocol):
    """A method at work. It sees the LR volume (with its acquisition) and a target grid, nothing of HR."""

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the intensity units of ``lr``."""
        ...
