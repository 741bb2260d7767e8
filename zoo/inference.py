"""LR volume in, SR volume out: loading a method with the weights that fit, and a network as an upscaler."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from mrsr_bench import UserError
from mrsr_bench.benchmarks.provenance import choose_device
from mrsr_bench.volume import FloatArray, Grid, Volume
from mrsr_bench.zoo.method import BatchNormMode, MethodSpec, Tiling, Upscaler
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.regrid import Interpolation
from mrsr_bench.zoo.tiling import run_stack, run_tiled, tile_shape, tiles
from mrsr_bench.zoo.walks import Placement, nearest_task, place, refined, same_grid, task_distance
from mrsr_bench.zoo.weights import Weights, find_weights, load_into

if TYPE_CHECKING:
    from mrsr_bench.zoo.patches import Prepared

__all__ = [
    "LoadedMethod",
    "NetworkUpscaler",
    "build_network",
    "load_method",
    "preferred_mode",
    "run_tiled",
    "set_batch_norm",
    "tile_shape",
    "tiles",
]

COMPARED_TILES = 2
"""Tiles, of different images, on which the two modes of batch norm are compared."""
COMPARED_CORE = 48
"""Largest edge, in voxels, of what is kept of such a tile: a deep network needs gigabytes for a whole one."""
_TILES_AT_ONCE = 4
"""On an accelerator: so many of the largest tiles that a tiling allows, or more smaller ones."""


def _imported(build: str) -> Any:
    module, _, name = build.partition(":")
    return getattr(importlib.import_module(module), name)


def build_network(spec: MethodSpec, overrides: Mapping[str, Any] | None = None, *, seed: int = 0) -> nn.Module:
    """The network of ``spec`` with freshly drawn weights.

    Raises:
        UserError: ``overrides`` holds an argument that the method does not leave open, or a value it cannot have.
    """
    chosen = dict(overrides or {})
    foreign = sorted(set(chosen) - set(spec.overridable))
    if foreign:
        raise UserError(
            f"{spec.name}: a recipe or a file of weights cannot set {foreign[0]} of the network; "
            f"it may set {', '.join(spec.overridable) or 'nothing'}"
        )
    torch.manual_seed(seed)
    try:
        return cast(nn.Module, _imported(spec.build)(**{**spec.arguments, **chosen}))
    except (TypeError, ValueError) as error:
        if not chosen:
            raise
        given = ", ".join(f"{key}: {value}" for key, value in chosen.items())
        raise UserError(
            f"{spec.name}: there is no such network with {given} ({str(error).splitlines()[0]}); correct the entry"
        ) from error


def set_batch_norm(network: nn.Module, mode: BatchNormMode) -> None:
    """Make every normalisation of ``network`` use running statistics or those of each tile."""
    for module in network.modules():
        if hasattr(module, "per_tile"):
            module.per_tile = mode == "tile"  # type: ignore[assignment]


class NetworkUpscaler:
    """A network as a method: scale by LR, walk over the volume as ``spec`` says (`mrsr_bench.zoo.walks`), scale back.

    ``tasks`` are those that the weights were trained for: they tell which axes take which places. Without ``spec`` the
    network is a same-grid 3D one, without ``tasks`` axes stand in the order R, A, S. ``notes`` holds what must be said
    of the volumes seen so far, each thing once.
    """

    def __init__(
        self,
        network: nn.Module,
        interpolation: Interpolation,
        tiling: Tiling,
        device: str,
        autocast: bool,
        *,
        spec: MethodSpec | None = None,
        tasks: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        flat = spec is not None and spec.dims == 2
        layout = torch.channels_last if flat else torch.channels_last_3d
        self.network = network.eval().to(device).to(memory_format=layout)
        set_batch_norm(self.network, tiling.batch_norm)
        self.interpolation, self.tiling, self.device, self.autocast = interpolation, tiling, device, autocast
        self.spec, self.tasks = spec, tuple(tasks)
        self.notes: list[str] = []

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the units of ``lr``.

        Raises:
            UserError: LR is constant or has no positive range.
        """
        from mrsr_bench.benchmarks.metrics.region import intensity_range

        scale = np.float32(intensity_range(lr.data))
        at = place(lr, target, nearest_task(self.tasks, lr, target))
        forward = self._forward(at)
        factor = None if self.spec is None else self.spec.scale
        # A network that scales by what it sees must see the whole volume, not one tile of it.
        observe = getattr(self.network, "observe", None)

        def run(stack: FloatArray) -> FloatArray:
            given = stack / scale
            if observe is not None:
                observe(torch.from_numpy(given))
            out = run_stack(
                forward,
                given,
                self.tiling,
                device=self.device,
                batch=self._batch(stack.shape[1:]),
                autocast=self.autocast,
                scale=factor,
            )
            out *= scale
            return out

        how = "volume" if self.spec is None else self.spec.walk
        if factor is None:
            return same_grid(lr, target, at, run, how, self.interpolation)
        sr, interpolated = refined(lr, target, at, run, how, factor)
        if interpolated:
            self._note_interpolation(at, factor)
        return sr

    def _forward(self, at: Placement) -> Any:
        if self.spec is None or not self.spec.conditioned:
            return self.network
        factor = round(at.factor[at.lead], 3)
        return lambda x: self.network(x, factor)

    def _batch(self, size: Sequence[int]) -> int:
        if self.device == "cpu":
            return 1
        largest = math.prod([self.tiling.window] * len(size))
        return max(1, _TILES_AT_ONCE * largest // math.prod(tile_shape(size, self.tiling)))

    def _note_interpolation(self, at: Placement, scale: Sequence[int]) -> None:
        assert self.spec is not None
        made = "x".join(str(f) for f in scale)
        asked = "x".join(f"{at.factor[p]:.3g}" for p in range(3) if at.factor[p] != 1) or "1"
        note = (
            f"{self.spec.name} refines by {made} and the target is finer by {asked}, or shifted against its grid, "
            "so what it gave was brought onto the target by cubic interpolation"
        )
        if note not in self.notes:
            self.notes.append(note)


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
    def trained_for(self) -> tuple[dict[str, Any], ...]:
        """The tasks (degradation and its parameters) that the weights were trained for, none for an interpolation."""
        return () if self.weights is None else trained_tasks(self.weights)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be said of the volumes upscaled so far: where the output had to be brought onto the target."""
        return tuple(getattr(self.upscaler, "notes", ()))

    def upscale(self, lr: Volume, target: Grid) -> Volume:
        """The SR volume on ``target``, in the intensity units of ``lr``."""
        return self.upscaler.upscale(lr, target)


def trained_tasks(weights: Weights) -> tuple[dict[str, Any], ...]:
    """Every task that ``weights`` were trained for."""
    config = weights.config
    return tuple(config.get("tasks") or (config["task"],))


def load_method(
    name: str,
    *,
    task: str | None,
    weights: Path | None = None,
    device: str = "cpu",
    tiling: Tiling | None = None,
    autocast: bool = False,
    lr: Volume | None = None,
    target: Grid | None = None,
    settings: Mapping[str, Any] | None = None,
) -> LoadedMethod:
    """Load a method, with weights for the protocol ``task``.

    ``settings`` are constructor arguments that take the place of those the weights were trained with
    (`MethodSpec.adjustable`).

    Without a ``task``: with the weights whose task is nearest to how ``lr`` was acquired for ``target`` (thick slices,
    samples, k-space; factors), or, without those two, with the first there are.

    Raises:
        UserError: the name is unknown, the weights are missing or damaged, or the method cannot do the task or has no
            such setting.
    """
    spec = methods.get(name)
    if spec.kind == "interpolation":
        if weights is not None:
            raise UserError(f"{name} is an interpolation and takes no weights; leave --weights out")
        _check_settings(spec, settings)
        return LoadedMethod(spec, spec.name, None, None, cast(Upscaler, _imported(spec.build)(**spec.arguments)))
    entry: Mapping[str, Any] | None = None
    if task is not None:
        from mrsr_bench.benchmarks.protocol import get_protocol

        if task not in spec.tasks:
            raise UserError(f"{name} does not do {task}; it does {', '.join(spec.tasks)}")
        entry = get_protocol(task).content["task"]
    if entry is None and weights is None and lr is not None and target is not None:
        resolved, found = _nearest(spec, lr, target)
    else:
        resolved, found = _resolve(spec, entry, weights)
    if found is None:
        for_task = f" for {task}" if task else ""
        raise UserError(
            f"there are no weights of {name}{for_task} here; train them with "
            f"`mrsr-bench train --model {name} --dataset ...` or name a file with --weights"
        )
    config = found.config
    _check_settings(resolved, settings)
    network = build_network(resolved, {**config["network"], **(settings or {})})
    load_into(network, found)
    used = tiling or _with_room(replace(Tiling(), **config["tiling"]), resolved.tiling)
    device = choose_device(device)
    upscaler = NetworkUpscaler(
        network, config["regrid"], used, device, autocast, spec=resolved, tasks=trained_tasks(found)
    )
    return LoadedMethod(resolved, resolved.name, found, used, upscaler)


def _with_room(stored: Tiling, declared: Tiling) -> Tiling:
    """The tiling that weights were stored with, in larger tiles where the method allows them by now.

    Only where tiles equal the volume, and their size changes nothing but time and memory.
    """
    free = stored.batch_norm == "eval" and stored.margin >= declared.margin
    return replace(stored, window=max(stored.window, declared.window)) if free else stored


def _check_settings(spec: MethodSpec, settings: Mapping[str, Any] | None) -> None:
    foreign = sorted(set(settings or {}) - set(spec.adjustable))
    if foreign:
        has = ", ".join(spec.adjustable) or "nothing"
        raise UserError(f"{spec.name} has no setting called {foreign[0]!r}; of a trained network {has} may be set")


def _resolve(spec: MethodSpec, task: Mapping[str, Any] | None, path: Path | None) -> tuple[MethodSpec, Weights | None]:
    """An alias is the largest of its members that has weights here, else on the Hub; any other name is itself."""
    names = spec.alias_for or (spec.name,)
    for hub, name in itertools.product((False, True), names):
        member = methods.get(name)
        try:
            found = find_weights(member, task, path, hub=hub)
        except UserError:
            if path is None or name == names[-1]:
                raise
            continue
        if found is not None:
            return member, found
    return spec, None


def _nearest(spec: MethodSpec, lr: Volume, target: Grid) -> tuple[MethodSpec, Weights | None]:
    """Of the weights of a method (of an alias: its first member that has any) those made for LR volumes like ``lr``."""
    from mrsr_bench.benchmarks.protocol import get_protocol

    for hub, name in itertools.product((False, True), spec.alias_for or (spec.name,)):
        member = methods.get(name)
        tasks = [get_protocol(task).content["task"] for task in member.tasks]
        for task in (*sorted(tasks, key=lambda task: task_distance(task, lr, target)), None):
            found = find_weights(member, task, hub=hub)
            if found is not None:
                return member, found
    return spec, None


def preferred_mode(
    network: nn.Module, val: Sequence[Prepared], count: int, tiling: Tiling | None = None
) -> tuple[BatchNormMode, dict[str, float]]:
    """Which batch-norm mode validates better, and the PSNR (dB) of both; ``eval`` where there is no difference.

    Compared on nearly what inference will meet: a tile of at most ``tiling``'s size from the middle of each of the
    first few images (at most ``count``), its margin left out. A network without normalisations that know tiles is not
    run: no scores.
    """
    if not any(hasattr(module, "per_tile") for module in network.modules()):
        return "eval", {}
    network.eval()
    scores: dict[BatchNormMode, float] = {"eval": 0.0, "tile": 0.0}
    images = val[: min(count, COMPARED_TILES)]
    used = tiling or Tiling()
    used = replace(used, window=min(used.window, 2 * used.margin + COMPARED_CORE))
    for mode in scores:
        set_batch_norm(network, mode)
        for image in images:
            scores[mode] += _tile_psnr(network, image, replace(used, batch_norm=mode)) / len(images)
    set_batch_norm(network, "eval")
    return ("tile" if scores["tile"] > scores["eval"] else "eval"), {str(mode): psnr for mode, psnr in scores.items()}


@torch.inference_mode()
def _tile_psnr(network: nn.Module, image: Prepared, tiling: Tiling) -> float:
    """PSNR (dB) of the kept part of the middle tile of ``image``; tiles are cubes, as in ``tile`` mode."""
    found = tiles(image.lr.shape, replace(tiling, batch_norm="tile"))
    tile = found[len(found) // 2]
    inner = tuple(slice(k.start - r.start, k.stop - r.start) for k, r in zip(tile.keep, tile.read, strict=True))
    read = np.ascontiguousarray(image.lr[tile.read])
    sr = run_tiled(network, read, replace(tiling, margin=0, window=max(read.shape)))
    error = (sr[inner].astype(np.float64) - image.hr[tile.keep]) ** 2
    return 10 * math.log10(image.range**2 / max(float(error.mean()), 1e-20))
