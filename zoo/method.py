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
    method, ``adjustable`` those of them that may be set once more when trained weights are put to use: they change what
    is computed, not what is learnt. ``alias_for`` lists names, best first, for names that resolve to whatever has
    weights.

    How a network meets a volume: ``walk`` is ``volume`` (3D), ``slices`` (2D, in the plane that is degraded) or
    ``through_plane`` (2D, on the two stacks of slices that contain the slice axis, averaged). ``scale`` is the factor
    of an upscaling network along each of its axes, None where the grid stays. A ``conditioned`` network is called with
    the factor too. ``groups`` names sets of tasks that one file of weights serves.
    """

    name: str
    kind: Literal["interpolation", "network"]
    summary: str
    paper: str
    build: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    dims: Literal[2, 3] = 3
    walk: Literal["volume", "slices", "through_plane"] = "volume"
    scale: tuple[int, ...] | None = None
    conditioned: bool = False
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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
    adjustable: tuple[str, ...] = ()
    folder: str | None = None
    version: int = 1

    @property
    def package(self) -> str:
        """The Python package of the method, which holds its recipes and weights; empty if it names none."""
        if self.folder is not None:
            return f"mrsr_bench.zoo.methods.{self.folder}"
        return self.build.partition(":")[0].rpartition(".")[0]


class Upscaler(Protocol):
    """A method at work. It sees the LR volume (with its acquisition) and a target grid, nothing of HR."""

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the intensity units of ``lr``."""
        ...
