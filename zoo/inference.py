"""LR volume in, SR volume out: loading a method, and walking a network over a volume in tiles.

Tiles have a margin that is thrown away; where it covers the receptive field, tiles give what the whole volume would.
With ``batch_norm="tile"`` every tile is normalised by its own statistics, so the number of tiles in a batch changes
nothing; tiles that are constant pass through.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mrsr_bench import UserError
from mrsr_bench.benchmarks.provenance import choose_device
from mrsr_bench.volume import FloatArray, Grid, Volume
from mrsr_bench.zoo.method import BatchNormMode, MethodSpec, Tiling, Upscaler
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.regrid import Interpolation, regrid
from mrsr_bench.zoo.weights import Weights, find_weights, load_into

if TYPE_CHECKING:
    from mrsr_bench.zoo.patches import Prepared

CONSTANT_TILE = 1e-6
"""A tile whose values span less than this (in units of the scaled input) is returned as it is in ``tile`` mode."""


def _imported(build: str) -> Any:
    module, _, name = build.partition(":")
    return getattr(importlib.import_module(module), name)


def build_network(spec: MethodSpec, overrides: Mapping[str, Any] | None = None, *, seed: int = 0) -> nn.Module:
    """The network of ``spec`` with freshly drawn weights.

    Raises:
        UserError: ``overrides`` holds an argument that the method does not leave open.
    """
    chosen = dict(overrides or {})
    foreign = sorted(set(chosen) - set(spec.overridable))
    if foreign:
        raise UserError(
            f"{spec.name}: a recipe or a file of weights cannot set {foreign[0]} of the network; "
            f"it may set {', '.join(spec.overridable) or 'nothing'}"
        )
    torch.manual_seed(seed)
    return cast(nn.Module, _imported(spec.build)(**{**spec.arguments, **chosen}))


def set_batch_norm(network: nn.Module, mode: BatchNormMode) -> None:
    """Make every normalisation of ``network`` use running statistics or those of each tile."""
    for module in network.modules():
        if hasattr(module, "per_tile"):
            module.per_tile = mode == "tile"  # type: ignore[assignment]


@dataclass(frozen=True)
class Tile:
    """A tile: what is read along each axis, and the part of it that is kept."""

    read: tuple[slice, slice, slice]
    keep: tuple[slice, slice, slice]


def _cut(size: int, length: int, margin: int) -> list[tuple[int, int, int, int]]:
    """(read start, read stop, keep start, keep stop) of tiles of ``length`` along an axis; the last one moves back."""
    starts = [0]
    while starts[-1] + length < size:
        starts.append(min(starts[-1] + length - 2 * margin, size - length))
    ends = [start + length - margin for start in starts[:-1]] + [size]
    return list(zip(starts, [s + length for s in starts], [0, *ends[:-1]], ends, strict=True))


def _lengths(size: int, tiling: Tiling) -> list[int]:
    """Tile lengths worth trying along an axis: the shortest that cover it in 1, 2, 3 ... tiles, to half a window."""
    found = [size]
    least = max(tiling.window // 2, 2 * tiling.margin + 1)
    for count in range(2, size + 1):
        length = -(-(size + 2 * tiling.margin * (count - 1)) // count)
        if length < least:
            break
        if length < found[-1]:
            found.append(length)
    return found


def tile_shape(shape: Sequence[int], tiling: Tiling) -> tuple[int, ...]:
    """How large the tiles of a volume are.

    In ``tile`` mode their size is part of the method: cubes of ``window`` voxels a side. In ``eval`` mode it is not,
    and the shape is the one that computes the fewest voxels among those of at most ``window``^3: that bounds memory.

    Raises:
        UserError: the margin eats the whole window.
    """
    if tiling.window <= 2 * tiling.margin and max(shape) > tiling.window:
        raise UserError(
            f"a window of {tiling.window} voxels has nothing left after a margin of {tiling.margin}; make it larger"
        )
    if tiling.batch_norm == "tile":
        return tuple(min(n, tiling.window) for n in shape)
    choices = itertools.product(*(_lengths(n, tiling) for n in shape))
    fitting = [lengths for lengths in choices if math.prod(lengths) <= tiling.window**3]
    if not fitting:
        return tuple(min(n, tiling.window) for n in shape)

    def computed(lengths: tuple[int, ...]) -> int:
        counts = (len(_cut(n, length, tiling.margin)) for n, length in zip(shape, lengths, strict=True))
        return math.prod(lengths) * math.prod(counts)

    return min(fitting, key=computed)


def tiles(shape: Sequence[int], tiling: Tiling) -> list[Tile]:
    """Tiles of one shape that cover a volume; together their kept parts are every voxel once."""
    lengths = tile_shape(shape, tiling)
    axes = [_cut(n, length, tiling.margin) for n, length in zip(shape, lengths, strict=True)]
    found = []
    for parts in itertools.product(*axes):
        read = tuple(slice(a, b) for a, b, _, _ in parts)
        keep = tuple(slice(c, d) for _, _, c, d in parts)
        found.append(Tile(cast(Any, read), cast(Any, keep)))
    return found


@torch.inference_mode()
def run_tiled(
    network: nn.Module,
    image: FloatArray,
    tiling: Tiling,
    *,
    device: str = "cpu",
    batch: int = 1,
    autocast: bool = False,
) -> FloatArray:
    """``network`` over ``image`` (x, y, z, float32) in tiles; the output has its shape.

    ``batch`` tiles go through together; the result does not depend on it.
    """
    out = np.empty(image.shape, dtype=np.float32)
    whole = torch.from_numpy(np.ascontiguousarray(image))
    for group in _batches(tiles(image.shape, tiling), batch):
        reads = torch.stack([whole[tile.read] for tile in group])[:, None]
        done = _forward(network, reads, tiling.batch_norm, device, autocast)
        for tile, result in zip(group, done, strict=True):
            inner = tuple(slice(k.start - r.start, k.stop - r.start) for k, r in zip(tile.keep, tile.read, strict=True))
            out[tile.keep] = result[0][inner].numpy()
    return out


def _batches(items: Sequence[Tile], size: int) -> Iterator[Sequence[Tile]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _forward(network: nn.Module, reads: Tensor, mode: BatchNormMode, device: str, autocast: bool) -> Tensor:
    done = reads.clone()
    live = list(range(len(reads)))
    if mode == "tile":
        spans = (reads.amax(dim=(1, 2, 3, 4)) - reads.amin(dim=(1, 2, 3, 4))).tolist()
        live = [index for index, span in enumerate(spans) if span > CONSTANT_TILE]
    if live:
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            result = network(reads[live].to(device))
        done[live] = result.float().cpu()
    return done


class NetworkUpscaler:
    """A same-grid 3D network as a method: regrid, scale by LR, tiles in world axis order, scale back."""

    def __init__(
        self, network: nn.Module, interpolation: Interpolation, tiling: Tiling, device: str, autocast: bool
    ) -> None:
        self.network = network.eval().to(device).to(memory_format=torch.channels_last_3d)
        set_batch_norm(self.network, tiling.batch_norm)
        self.interpolation, self.tiling, self.device, self.autocast = interpolation, tiling, device, autocast

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the units of ``lr``.

        Raises:
            UserError: LR is constant or has no positive range.
        """
        from mrsr_bench.benchmarks.metrics.region import intensity_range

        scale = np.float32(intensity_range(lr.data))
        given = regrid(lr, target, self.interpolation)
        order = target.world_to_array()
        image = np.ascontiguousarray(given.data.transpose(order)) / scale
        batch = 1 if self.device == "cpu" else 4
        out = run_tiled(self.network, image, self.tiling, device=self.device, batch=batch, autocast=self.autocast)
        back = cast(tuple[int, int, int], tuple(int(i) for i in np.argsort(order)))
        return given.with_data(np.ascontiguousarray((out * scale).transpose(back)))


@dataclass(frozen=True)
class LoadedMethod:
    """A method ready to work: its facts, the name it resolved to, and the weights it uses."""

    spec: MethodSpec
    resolved: str
    weights: Weights | None
    tiling: Tiling | None
    upscaler: Upscaler

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights file, None for an interpolation."""
        return None if self.weights is None else self.weights.sha256

    @property
    def trained_for(self) -> dict[str, Any] | None:
        """The task (degradation and its parameters) that the weights were trained for, None for an interpolation."""
        return None if self.weights is None else cast("dict[str, Any]", self.weights.config["task"])

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the intensity units of ``lr``."""
        return self.upscaler.upscale(lr, target)


def load_method(
    name: str,
    *,
    task: str | None,
    weights: Path | None = None,
    device: str = "cpu",
    tiling: Tiling | None = None,
    autocast: bool = False,
) -> LoadedMethod:
    """Load a method, with weights for the protocol ``task`` (None: whatever task it has weights for).

    Raises:
        UserError: the name is unknown, the weights are missing or damaged, or the method cannot do the task.
    """
    spec = methods.get(name)
    if spec.kind == "interpolation":
        if weights is not None:
            raise UserError(f"{name} is an interpolation and takes no weights; leave --weights out")
        return LoadedMethod(spec, spec.name, None, None, cast(Upscaler, _imported(spec.build)(**spec.arguments)))
    entry: Mapping[str, Any] | None = None
    if task is not None:
        from mrsr_bench.benchmarks.protocol import get_protocol

        if task not in spec.tasks:
            raise UserError(f"{name} does not do {task}; it does {', '.join(spec.tasks)}")
        entry = get_protocol(task).content["task"]
    resolved, found = _resolve(spec, entry, weights)
    if found is None:
        for_task = f" for {task}" if task else ""
        raise UserError(
            f"there are no weights of {name}{for_task} here; train them with "
            f"`mrsr-bench train --model {name} --dataset ...` or name a file with --weights"
        )
    config = found.config
    network = build_network(resolved, config["network"])
    load_into(network, found)
    used = tiling or replace(Tiling(), **config["tiling"])
    device = choose_device(device)
    upscaler = NetworkUpscaler(network, config["regrid"], used, device, autocast)
    return LoadedMethod(resolved, resolved.name, found, used, upscaler)


def _resolve(spec: MethodSpec, task: Mapping[str, Any] | None, path: Path | None) -> tuple[MethodSpec, Weights | None]:
    """An alias is the largest of its members that has weights; any other name is itself, with no fallback."""
    for name in spec.alias_for or (spec.name,):
        member = methods.get(name)
        try:
            found = find_weights(member, task, path)
        except UserError:
            if path is None or name == (spec.alias_for or (spec.name,))[-1]:
                raise
            continue
        if found is not None:
            return member, found
    return spec, None


@torch.no_grad()
def preferred_mode(network: nn.Module, val: Sequence[Prepared], count: int) -> tuple[BatchNormMode, dict[str, float]]:
    """Which batch-norm mode validates better, and the PSNR (dB) of both; ``eval`` where there is no difference."""
    from mrsr_bench.zoo.patches import fixed_patches
    from mrsr_bench.zoo.trainer import VALIDATION_SIZE, masked_psnr

    network.eval()
    scores = {"eval": 0.0, "tile": 0.0}
    patches = fixed_patches(val, count, VALIDATION_SIZE, 0)
    for mode in scores:
        set_batch_norm(network, cast(BatchNormMode, mode))
        for lr, hr, peak in patches:
            scores[mode] += masked_psnr(network(lr), hr, peak) / len(patches)
    set_batch_norm(network, "eval")
    return ("tile" if scores["tile"] > scores["eval"] else "eval"), scores
