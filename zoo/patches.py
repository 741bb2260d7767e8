"""Patches: what a training step sees. Volumes are degraded once and memory-mapped.

A patch is a function of (seed, step).

Volumes are stored in world axis order (R, A, S), so that a network always meets the degraded axes in the same place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, sha256_of
from mrsr_bench.volume import FloatArray
from mrsr_bench.zoo.regrid import Interpolation, regrid

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Case

_SCALE_RANGE = (0.8, 1.25)
_SWAP = (1, 0, 2)
_FORMAT = 1


@dataclass(frozen=True)
class Prepared:
    """One image ready for training: network input and HR, both scaled by c of LR, and where its foreground is.

    ``lr`` and ``hr`` are memory-mapped, shape (R, A, S); ``foreground`` holds flat indices of every voxel that a patch
    may be centred on; ``range`` is the metrics' range q over c.
    """

    subject: str
    lr: FloatArray
    hr: FloatArray
    foreground: npt.NDArray[np.int32]
    range: float


def prepare(
    cases: Sequence[Case], protocol: Protocol, interpolation: Interpolation, seed: int, store: Path
) -> list[Prepared]:
    """Degrade and regrid every case once; what lies in ``store`` already is used again.

    Raises:
        UserError: a case cannot be read or has no foreground.
    """
    from mrsr_bench.benchmarks.degradations import degradations

    degradation = degradations.get(protocol.degradation)
    store.mkdir(parents=True, exist_ok=True)
    found = []
    for case in cases:
        key = sha256_of([case.fingerprint, protocol.content["task"], degradation.version, interpolation, seed, _FORMAT])
        folder = store / key[:24]
        if not (folder / "facts.json").is_file():
            _write(case, protocol, interpolation, seed, folder)
        facts = json.loads((folder / "facts.json").read_text())
        found.append(
            Prepared(
                facts["subject"],
                np.load(folder / "lr.npy", mmap_mode="r"),
                np.load(folder / "hr.npy", mmap_mode="r"),
                np.load(folder / "foreground.npy", mmap_mode="r"),
                facts["range"],
            )
        )
    return found


def _write(case: Case, protocol: Protocol, interpolation: Interpolation, seed: int, folder: Path) -> None:
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.metrics.region import intensity_range, reference_of

    pair = case.acquire(degradations.get(protocol.degradation), protocol.settings, seed)
    reference = reference_of(pair.hr, pair.lr)
    scale = intensity_range(pair.lr.data)
    order = pair.hr.grid.world_to_array()
    arrays = {
        "lr": regrid(pair.lr, pair.hr.grid, interpolation).data.transpose(order) / np.float32(scale),
        "hr": pair.hr.data.transpose(order) / np.float32(scale),
        "foreground": np.flatnonzero(reference.mask.transpose(order)).astype(np.int32),
    }
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", np.ascontiguousarray(array))
    (partial / "facts.json").write_text(json.dumps({"subject": case.subject, "range": reference.range / scale}))
    partial.rename(folder)


class PatchSampler:
    """Batches of patches from prepared volumes; batch ``step`` depends on (seed, step) and nothing else."""

    def __init__(
        self,
        volumes: Sequence[Prepared],
        patch: tuple[int, int, int],
        batch: int,
        seed: int,
        augment: Sequence[str] = (),
    ) -> None:
        for volume in volumes:
            if any(n < p for n, p in zip(volume.lr.shape, patch, strict=True)):
                size = " x ".join(map(str, patch))
                raise UserError(
                    f"{volume.subject}: a volume of shape {volume.lr.shape} is smaller than the patch of {size} "
                    "voxels; use a recipe with smaller patches"
                )
        if not volumes:
            raise UserError("there is no volume to train on")
        self.volumes, self.patch, self.batch, self.seed, self.augment = volumes, patch, batch, seed, tuple(augment)
        self.can_swap = "swap" in augment and patch[0] == patch[1]
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[tuple[int, int, int], Future[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def _one(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        volume = self.volumes[int(rng.integers(len(self.volumes)))]
        centre = np.unravel_index(int(volume.foreground[int(rng.integers(len(volume.foreground)))]), volume.lr.shape)
        start = [
            int(np.clip(c - p // 2, 0, n - p)) for c, p, n in zip(centre, self.patch, volume.lr.shape, strict=True)
        ]
        box = tuple(slice(s, s + p) for s, p in zip(start, self.patch, strict=True))
        lr, hr = np.asarray(volume.lr[box]), np.asarray(volume.hr[box])
        if "flip" in self.augment:
            turned = tuple(axis for axis in range(3) if rng.random() < 0.5)
            lr, hr = np.flip(lr, turned), np.flip(hr, turned)
        if self.can_swap and rng.random() < 0.5:
            lr, hr = lr.transpose(_SWAP), hr.transpose(_SWAP)
        if "scale" in self.augment:
            factor = np.float32(np.exp(rng.uniform(*np.log(_SCALE_RANGE))))
            lr, hr = lr * factor, hr * factor
        return lr, hr

    def _make(self, step: int, rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
        share = range(rank, self.batch, world)
        pairs = [self._one(np.random.default_rng([self.seed, step, index])) for index in share]
        lr = torch.from_numpy(np.stack([p[0] for p in pairs])[:, None])
        hr = torch.from_numpy(np.stack([p[1] for p in pairs])[:, None])
        return lr, hr

    def get(self, step: int, rank: int = 0, world: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """LR and HR of batch ``step``, each (n, 1, *patch) float32; the next batch is made meanwhile."""
        wanted = (step, rank, world)
        made = self._ahead is not None and self._ahead[0] == wanted
        pair = self._ahead[1].result() if self._ahead is not None and made else self._make(*wanted)
        self._ahead = ((step + 1, rank, world), self._pool.submit(self._make, step + 1, rank, world))
        return pair

    def close(self) -> None:
        """End the thread that makes batches ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def fixed_patches(
    volumes: Sequence[Prepared], count: int, size: int, seed: int
) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
    """``count`` validation patches spread evenly over the volumes: (LR, HR, range), each (1, 1, size, size, size)."""
    found = []
    for index in range(count):
        volume = volumes[index % len(volumes)]
        edge = min(size, *volume.lr.shape)
        rng = np.random.default_rng([seed, index])
        centre = np.unravel_index(int(volume.foreground[int(rng.integers(len(volume.foreground)))]), volume.lr.shape)
        box = tuple(
            slice(s, s + edge)
            for s in (int(np.clip(c - edge // 2, 0, n - edge)) for c, n in zip(centre, volume.lr.shape, strict=True))
        )
        lr, hr = (torch.from_numpy(np.array(v[box])[None, None]) for v in (volume.lr, volume.hr))
        found.append((lr, hr, volume.range))
    return found
