"""Patches: what a training step sees. Volumes are degraded once and memory-mapped.

A patch is a function of (seed, step).

Volumes are stored in world axis order (R, A, S), or in the order that takes the degraded axes of this volume to those
of the task (a sagittal stack's in-plane axes become R and A), so that a network always meets the degraded axes in the
same place. For a same-grid network LR is brought onto the HR grid; for an upscaling one HR is brought onto the grid
that the network makes of LR, which under the common protocols is HR's own.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, sha256_of
from mrsr_bench.volume import FloatArray, Volume
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.regrid import Interpolation, regrid

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Case, Pair

_SCALE_RANGE = (0.8, 1.25)
_SWAP = (1, 0, 2)
_FORMAT = 2
Box = tuple[int, int, int]


@dataclass(frozen=True)
class Prepared:
    """One image ready for training: network input and HR, both scaled by c of LR, and where its foreground is.

    ``hr`` is (R, A, S), ``lr`` the same divided by ``step`` along each axis (1 for a same-grid network), both
    memory-mapped; ``foreground`` holds flat indices into ``hr`` of every voxel that a patch may be centred on;
    ``range`` is the metrics' range q over c; ``factor`` is the protocol's along the axis that is degraded most.
    """

    subject: str
    lr: FloatArray
    hr: FloatArray
    foreground: npt.NDArray[np.int32]
    range: float
    step: Box = (1, 1, 1)
    factor: float = 1.0


class Batch(NamedTuple):
    """Network input and HR, (n, 1, *patch) float32 (2D networks: (n, 1, height, width)), and their one factor."""

    lr: Tensor
    hr: Tensor
    factor: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """The same on ``device``."""
        return Batch(self.lr.to(device), self.hr.to(device), self.factor)


def prepare(
    cases: Sequence[Case],
    protocols: Sequence[Protocol],
    interpolation: Interpolation,
    seed: int,
    store: Path,
    spec: MethodSpec | None = None,
) -> list[Prepared]:
    """Degrade every case once by each protocol; what lies in ``store`` already is used again.

    ``spec`` tells how the method's input is made; without it LR is brought onto the HR grid by ``interpolation``.

    Raises:
        UserError: a case cannot be read or has no foreground.
    """
    from mrsr_bench.benchmarks.degradations import degradations

    store.mkdir(parents=True, exist_ok=True)
    native = spec is not None and spec.input == "native"
    dims = 3 if spec is None else spec.dims
    way = [spec.walk, spec.scale] if spec is not None and native else interpolation
    found = []
    for protocol in protocols:
        degradation = degradations.get(protocol.degradation)
        for case in cases:
            key = sha256_of([case.fingerprint, protocol.content["task"], degradation.version, way, seed, _FORMAT])
            folder = store / key[:24]
            if not (folder / "facts.json").is_file():
                pair = case.acquire(degradation, protocol.settings, seed)
                _write(case.subject, pair, protocol, spec if native else None, interpolation, folder, dims)
            facts = json.loads((folder / "facts.json").read_text())
            found.append(
                Prepared(
                    facts["subject"],
                    np.load(folder / "lr.npy", mmap_mode="r"),
                    np.load(folder / "hr.npy", mmap_mode="r"),
                    np.load(folder / "foreground.npy", mmap_mode="r"),
                    facts["range"],
                    tuple(facts["step"]),
                    facts["factor"],
                )
            )
    return found


def _write(
    subject: str,
    pair: Pair,
    protocol: Protocol,
    native: MethodSpec | None,
    interpolation: Interpolation,
    folder: Path,
    dims: int = 3,
) -> None:
    from mrsr_bench.benchmarks.metrics.region import intensity_range, reference_of
    from mrsr_bench.zoo.placement import network_order, slices_first

    reference = reference_of(pair.hr, pair.lr)
    scale = intensity_range(pair.lr.data)
    order = network_order(pair.lr, pair.hr.grid, protocol.factor)
    if dims == 2:
        order = slices_first(order, pair.hr.grid, protocol.factor)
    mask = reference.mask
    if native is None:
        lr, hr, step = regrid(pair.lr, pair.hr.grid, interpolation), pair.hr, (1, 1, 1)
    else:
        lr, hr, mask, step = _native(pair, mask, native, order)
    arrays = {
        "lr": lr.data.transpose(order) / np.float32(scale),
        "hr": hr.data.transpose(order) / np.float32(scale),
        "foreground": np.flatnonzero(mask.transpose(order)).astype(np.int32),
    }
    facts = {
        "subject": subject,
        "range": reference.range / scale,
        "step": step,
        "factor": max(protocol.factor),
    }
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", np.ascontiguousarray(array))
    (partial / "facts.json").write_text(json.dumps(facts))
    try:
        partial.rename(folder)
    except OSError:
        if not (folder / "facts.json").is_file():
            raise
        shutil.rmtree(partial)


def _native(
    pair: Pair, mask: npt.NDArray[np.bool_], spec: MethodSpec, order: Sequence[int]
) -> tuple[Volume, Volume, npt.NDArray[np.bool_], Box]:
    """LR as it is, and HR and its mask on the grid that the network of ``spec`` makes of LR."""
    from mrsr_bench.zoo.placement import sr_grid

    step = steps_of(spec)
    by_array = [1, 1, 1]
    for place, axis in enumerate(order):
        by_array[axis] = step[place]
    grid = sr_grid(pair.lr, by_array)
    if grid.same_as(pair.hr.grid):
        return pair.lr, pair.hr, mask, step
    there = regrid(pair.hr.with_data(mask.astype(np.float32)), grid, "nearest")
    return pair.lr, regrid(pair.hr, grid, "cubic"), there.data > 0.5, step


def steps_of(spec: MethodSpec) -> Box:
    """The factor of an upscaling network along the stored axes: R, A, S, the task's order.

    A network of slices has height A and width R; one that works through the plane has its height along S.
    """
    if spec.scale is None:
        return (1, 1, 1)
    if spec.dims == 3:
        return (spec.scale[0], spec.scale[1], spec.scale[2])
    height, width = spec.scale
    return (1, 1, height) if spec.walk == "through_plane" else (width, height, 1)


def check_patch(volumes: Sequence[Prepared], patch: Box, *, dims: int = 3, turn: bool = False) -> None:
    """Refuse a patch (HR voxels along R, A, S) that cannot be cut out of every volume.

    Raises:
        UserError: there is no volume, one is smaller, the patch splits LR voxels, or it is not of ``dims`` dimensions.
    """
    size = " x ".join(map(str, patch))
    if not volumes:
        raise UserError("there is no volume to train on")
    if dims == 2 and patch.count(1) != 1:
        raise UserError(f"a 2D network learns from patches of one slice, such as 64 x 64 x 1; got {size}")
    if dims == 3 and 1 in patch:
        raise UserError(f"a 3D network learns from patches of several slices, such as 24 x 24 x 24; got {size}")
    for volume in volumes:
        for side in (patch, _turned(patch)) if turn else (patch,):
            if any(n < p for n, p in zip(volume.hr.shape, side, strict=True)):
                raise UserError(
                    f"{volume.subject}: a volume of shape {volume.hr.shape} is smaller than the patch of "
                    f"{' x '.join(map(str, side))} voxels; use a recipe with smaller patches"
                )
        if any(p % s for p, s in zip(patch, volume.step, strict=True)):
            raise UserError(f"a patch of {size} voxels does not hold whole LR voxels at the factor {volume.step}")


def _turned(patch: Box) -> Box:
    """The same patch with R and A exchanged."""
    return (patch[1], patch[0], patch[2])


class PatchSampler:
    """Batches of patches from prepared volumes; batch ``step`` depends on (seed, step) and nothing else.

    ``patch`` is in HR voxels along R, A, S. A batch holds patches of one factor, drawn by ``shares`` (`Recipe.shares`).
    With ``dims=2`` the axis on which the patch has one voxel is left out and the others are given as height and width:
    the later of the two axes first.
    ``turn`` exchanges the roles of R and A at random, so that both stacks that contain the slice axis are seen.
    """

    def __init__(
        self,
        volumes: Sequence[Prepared],
        patch: Box,
        batch: int,
        seed: int,
        augment: Sequence[str] = (),
        *,
        dims: int = 3,
        turn: bool = False,
        paired: bool = True,
        shares: Mapping[float, float] | None = None,
    ) -> None:
        check_patch(volumes, patch, dims=dims, turn=turn)
        self.volumes, self.patch, self.batch, self.seed, self.augment = volumes, patch, batch, seed, tuple(augment)
        self.dims, self.turn, self.paired = dims, turn, paired
        self.factors = sorted({volume.factor for volume in volumes})
        self.shares = _shares_of(self.factors, shares) if shares else None
        self.can_swap = "swap" in augment and patch[0] == patch[1]
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[tuple[int, int, int], Future[Batch]] | None = None

    def _one(self, volumes: Sequence[Prepared], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        volume = volumes[int(rng.integers(len(volumes)))]
        patch = self.patch
        turned = self.turn and rng.random() < 0.5
        if turned:
            patch = _turned(patch)
        lr, hr = _cut(volume, patch, int(volume.foreground[int(rng.integers(len(volume.foreground)))]))
        if not self.paired:
            _, hr = _cut(volume, patch, int(volume.foreground[int(rng.integers(len(volume.foreground)))]))
        if turned:
            lr, hr = lr.transpose(_SWAP), hr.transpose(_SWAP)
        if "flip" in self.augment:
            flipped = tuple(axis for axis in range(3) if rng.random() < 0.5)
            lr, hr = np.flip(lr, flipped), np.flip(hr, flipped)
        if self.can_swap and volume.step[0] == volume.step[1] and rng.random() < 0.5:
            lr, hr = lr.transpose(_SWAP), hr.transpose(_SWAP)
        if "scale" in self.augment:
            factor = np.float32(np.exp(rng.uniform(*np.log(_SCALE_RANGE))))
            lr, hr = lr * factor, hr * factor
        return lr, hr

    def _make(self, step: int, rank: int, world: int) -> Batch:
        volumes, factor = self.volumes, self.factors[0]
        if len(self.factors) > 1:
            rng = np.random.default_rng([self.seed, step])
            chosen = (
                rng.integers(len(self.factors)) if self.shares is None else rng.choice(len(self.factors), p=self.shares)
            )
            factor = self.factors[int(chosen)]
            volumes = [volume for volume in self.volumes if volume.factor == factor]
        share = range(rank, self.batch, world)
        pairs = [self._one(volumes, np.random.default_rng([self.seed, step, index])) for index in share]
        lr, hr = (self._tensor(np.stack([pair[i] for pair in pairs])) for i in range(2))
        return Batch(lr, hr, factor)

    def _tensor(self, patches: FloatArray) -> Tensor:
        return torch.from_numpy(patches[:, None]) if self.dims == 3 else as_slices(patches)

    def get(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch ``step``; the next one is made meanwhile."""
        wanted = (step, rank, world)
        made = self._ahead is not None and self._ahead[0] == wanted
        batch = self._ahead[1].result() if self._ahead is not None and made else self._make(*wanted)
        self._ahead = ((step + 1, rank, world), self._pool.submit(self._make, step + 1, rank, world))
        return batch

    def close(self) -> None:
        """End the thread that makes batches ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _shares_of(factors: Sequence[float], shares: Mapping[float, float]) -> npt.NDArray[np.float64]:
    unknown = sorted(set(shares) - set(factors))
    if unknown:
        raise UserError(
            f"shares: no task of this training has the factor {unknown[0]:g}; it has "
            f"{', '.join(f'{factor:g}' for factor in factors)}"
        )
    asked = np.array([shares.get(factor, 1.0) for factor in factors])
    return np.asarray(asked / asked.sum())


def as_slices(patches: FloatArray) -> Tensor:
    """(n, R, A, S) with one voxel along one axis as (n, 1, height, width): the later of the other axes first."""
    still = next(axis for axis in (3, 2, 1) if patches.shape[axis] == 1)
    return torch.from_numpy(np.ascontiguousarray(np.squeeze(patches, still).transpose(0, 2, 1)))[:, None]


def _cut(volume: Prepared, patch: Box, centre: int) -> tuple[FloatArray, FloatArray]:
    """LR and HR around the HR voxel of flat index ``centre``: whole LR voxels, inside the volume."""
    middle = np.unravel_index(centre, volume.hr.shape)
    coarse, fine = [], []
    for c, p, n, s in zip(middle, patch, volume.hr.shape, volume.step, strict=True):
        start = int(np.clip((c - p // 2) // s, 0, n // s - p // s))
        coarse.append(slice(start, start + p // s))
        fine.append(slice(start * s, start * s + p))
    return np.asarray(volume.lr[tuple(coarse)]), np.asarray(volume.hr[tuple(fine)])


class Sample(NamedTuple):
    """A patch for validation: network input, HR, factor, and the range of the image."""

    lr: Tensor
    hr: Tensor
    factor: float
    range: float


def fixed_patches(
    volumes: Sequence[Prepared], count: int, patch: Box, seed: int, *, dims: int = 3, turn: bool = False
) -> list[Sample]:
    """``count`` validation patches spread evenly over the volumes, each (1, 1, *patch), smaller where a volume is.

    With ``dims=2`` they are slices (1, 1, height, width); ``turn`` gives every second one with R and A exchanged.
    """
    found = []
    for index in range(count):
        volume = volumes[index % len(volumes)]
        exchanged = turn and (index // len(volumes)) % 2 == 1
        wanted = _turned(patch) if exchanged else patch
        edge = [min(p, n) // s * s for p, n, s in zip(wanted, volume.hr.shape, volume.step, strict=True)]
        rng = np.random.default_rng([seed, index])
        centre = int(volume.foreground[int(rng.integers(len(volume.foreground)))])
        cut = [np.array(part)[None] for part in _cut(volume, (edge[0], edge[1], edge[2]), centre)]
        if exchanged:
            cut = [np.ascontiguousarray(part.transpose(0, 2, 1, 3)) for part in cut]
        lr, hr = (torch.from_numpy(part)[None] if dims == 3 else as_slices(part) for part in cut)
        found.append(Sample(lr, hr, volume.factor, volume.range))
    return found
