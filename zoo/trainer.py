"""Training: stages of a recipe, one after the other, resumable at any moment.

Every update is a function of (seed, step): patches, penalties, learning rates. A checkpoint (written to a temporary
folder, then renamed) holds weights, optimisers and counters, so a killed and resumed training ends with the same bits
as one that was left alone, on the same machine type and thread count. accelerate carries devices, mixed precision and
DDP (supervised stages; `accelerate launch` or `torchrun`); files are written by the main process alone.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import sha256_of
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.patches import Batch, PatchSampler, Prepared, Sample, fixed_patches
from mrsr_bench.zoo.players import Players, Table, judged_patch, players_for
from mrsr_bench.zoo.readiness import VALIDATION_MARGIN, check_training, validation_patch
from mrsr_bench.zoo.recipe import Recipe, Stage

KEPT_CHECKPOINTS = 2
State = dict[str, Any]


class TrainingDivergedError(UserError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint."""

    stage: int = 0
    step: int = 0
    generator_steps: int = 0
    seconds: float = 0.0
    psnr: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    best_step: dict[str, int] = field(default_factory=dict)
    log_bytes: int = 0
    drops: int = 0
    stale: int = 0


def masked_psnr(sr: Tensor, hr: Tensor, peak: float) -> float:
    """PSNR in dB of the inner part of a patch, ``peak`` being the range."""
    m = VALIDATION_MARGIN
    inner: tuple[Any, ...] = (..., *[slice(m, -m)] * (sr.dim() - 2))
    error = (sr[inner].double() - hr[inner].double()).pow(2).mean().item()
    return 10 * math.log10(peak * peak / max(error, 1e-20))


class Trainer:
    """Trains ``network`` by ``recipe`` in ``folder``; `run` returns when every stage is done.

    ``spec`` tells how the network meets its patches; without it, as a same-grid 3D network does. ``perceptual`` is the
    loss of the stages that ask for one. ``identity`` is what must not change between a checkpoint and its resumption
    (recipe, data, seed, protocol).
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        train: Sequence[Prepared],
        val: Sequence[Prepared],
        folder: Path,
        *,
        identity: State,
        seed: int = 0,
        device: str = "cpu",
        checkpoint_seconds: float = 120.0,
        initial: State | None = None,
        spec: MethodSpec | None = None,
        perceptual: Mapping[str, nn.Module] | None = None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, set_seed

        self.recipe, self.train, self.seed, self.folder = recipe, train, seed, folder
        self.identity = sha256_of(identity)
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = Progress()
        self.conditioned = spec is not None and spec.conditioned
        some_idle = DistributedDataParallelKwargs(find_unused_parameters=self.conditioned)
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=[some_idle])
        set_seed(seed)
        self.device = self.accelerator.device
        self.network = network
        in_a_cycle = any(stage.kind == "cycle" for stage in recipe.stages)
        self.untrained = copy.deepcopy(network) if in_a_cycle else None
        if initial is not None:
            network.load_state_dict(initial)
        self.dims = 3 if spec is None else spec.dims
        self.through_plane = spec is not None and spec.walk == "through_plane"
        self.layout = torch.channels_last_3d if self.dims == 3 else torch.channels_last
        self.perceptual = dict(perceptual or {})
        looked_at = validation_patch(recipe, self.dims)
        self.val = [
            sample._replace(lr=sample.lr.to(self.device), hr=sample.hr.to(self.device))
            for sample in fixed_patches(
                val, recipe.validation_patches, looked_at, seed, dims=self.dims, turn=self.through_plane
            )
        ]
        self.average: State | None = None
        self._tensorboard: Any = None
        check_training(
            recipe,
            train,
            self.val,
            dims=self.dims,
            turn=self.through_plane,
            processes=self.accelerator.num_processes,
            perceptual=self.perceptual,
        )

    # -- one stage ---------------------------------------------------------------------------------------------

    def run(self, *, fresh: bool = False) -> Path:
        """Train to the end, resuming from the last checkpoint unless ``fresh``.

        Returns:
            The folder with ``best-STAGE.pt`` of every stage and ``log.jsonl``.

        Raises:
            TrainingDivergedError: the loss became NaN or infinite.
            UserError: the folder holds the checkpoints of another training.
        """
        if self.accelerator.is_main_process:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            for partial in self.folder.glob("*.partial"):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()
        if self.device.type == "cuda":
            _be_deterministic()
        self.accelerator.wait_for_everyone()
        saved = self._newest()
        if saved is not None and saved["identity"] != self.identity:
            raise UserError(
                f"{self.folder} holds a training of another recipe, data set or seed, or of other weights to begin "
                "with; pass --fresh to start anew, or another --out"
            )
        if saved is not None:
            self.progress = Progress(**saved["progress"])
            self._say(f"resuming at stage {self.progress.stage + 1}, step {self.progress.step}")
        if self.accelerator.is_main_process:
            self._open_log()
        try:
            while self.progress.stage < len(self.recipe.stages):
                self._run_stage(self.recipe.stages[self.progress.stage], saved)
                saved = None
                self.progress.stage += 1
                self.progress.step = self.progress.generator_steps = self.progress.drops = self.progress.stale = 0
                self._save_checkpoint(None)
                self.accelerator.wait_for_everyone()
        finally:
            if self.accelerator.is_main_process:
                self._close_log()
        self.accelerator.wait_for_everyone()
        return self.folder

    def _run_stage(self, stage: Stage, saved: State | None) -> None:
        accelerator = self.accelerator
        if saved is None or saved["stage_state"] is None:
            self._start_from_best_of_previous()
        network = self.network.to(self.device).to(memory_format=self.layout)
        network.train()
        table = Table(
            stage,
            network,
            self.device,
            self.seed,
            lambda record: self._stop_unless_finite(stage, record),
            conditioned=self.conditioned,
            perceptual=self.perceptual.get(stage.name),
            untrained=self.untrained,
            memory_format=self.layout,
            backward=accelerator.backward,
        )
        players = players_for(table)
        self.average = None
        if stage.ema:
            self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        if saved is not None and saved["stage_state"] is not None:
            self._restore(saved["stage_state"], network, players)
        if stage.kind == "supervised":
            table.model = accelerator.prepare_model(network)
        sampler = PatchSampler(
            self.train,
            stage.patch,
            stage.batch,
            self.seed + self.progress.stage,
            self.recipe.augment,
            dims=self.dims,
            turn=self.through_plane,
            paired=stage.paired,
            shares=self.recipe.shares,
        )
        total, started, last_saved, last_said = stage.total_steps(), time.monotonic(), time.monotonic(), 0.0
        first, before = self.progress.step, self.progress.seconds
        baseline = self._validation_baseline()
        try:
            while self.progress.step < total and not self._exhausted(stage):
                step = self.progress.step
                batch = sampler.get(step, accelerator.process_index, accelerator.num_processes).to(self.device)
                turn = "g" if stage.game is None else stage.game.turn(step)
                table.drops = self.progress.drops
                record = self._move(players, turn, batch)
                self._stop_unless_finite(stage, record)
                if turn == "g" and self.average is not None:
                    _blend(self.average, network.state_dict(), stage.ema, self.progress.generator_steps)
                self.progress.step += 1
                self.progress.generator_steps += turn == "g"
                self.progress.seconds = before + time.monotonic() - started
                lr = float(players.generator.param_groups[0]["lr"])
                self._log({"stage": stage.name, "step": step, "turn": turn, "lr": lr, **record})
                if turn == "g" and (
                    self.progress.generator_steps % stage.validate_every == 0
                    or self.progress.generator_steps == stage.steps
                ):
                    self._validate(stage, network, players, baseline)
                now = time.monotonic()
                if now - last_saved > self.checkpoint_seconds:
                    self._save_checkpoint((network, players))
                    last_saved = now
                if now - last_said > 5 or self.progress.step == total:
                    last_said = now
                    rate = (self.progress.step - first) / max(now - started, 1e-9)
                    left = (total - self.progress.step) / max(rate, 1e-9)
                    self._say(
                        f"{stage.name} {self.progress.step}/{total}  loss {next(iter(record.values())):.5f}  "
                        + (f"PSNR {self.progress.psnr:.3f} dB  " if self.progress.psnr else "")
                        + f"{rate:.2f} it/s  ETA {left / 60:.1f} min"
                    )
        finally:
            sampler.close()

    def _move(self, players: Players, turn: str, batch: Batch) -> dict[str, float]:
        """One update by whoever's turn it is; dropout too is drawn from the seed and the step."""
        place = (self.progress.stage << 32) + self.progress.step
        torch.manual_seed((self.seed * 1_000_003 + place) * 64 + self.accelerator.process_index)
        if turn == "g":
            return players.move_network(batch, self.progress.generator_steps)
        return players.move_critic(batch, self.progress.step)

    def _exhausted(self, stage: Stage) -> bool:
        """Whether a plateau schedule has made all its cycles."""
        return stage.generator.schedule == "plateau" and self.progress.drops >= stage.generator.cycles

    def _stop_unless_finite(self, stage: Stage, record: dict[str, float]) -> None:
        if not all(math.isfinite(v) for v in record.values()):
            raise TrainingDivergedError(
                f"the training became NaN or infinite in stage {stage.name} at step {self.progress.step}; the last "
                f"good checkpoint is kept in {self.folder}; lower the recipe's learning rate and start with --fresh"
            )

    # -- validation --------------------------------------------------------------------------------------------

    def _validation_baseline(self) -> float | None:
        """PSNR of the input itself; None where an upscaling network's input lies on another grid."""
        if any(sample.lr.shape != sample.hr.shape for sample in self.val):
            return None
        return sum(masked_psnr(sample.lr, sample.hr, sample.range) for sample in self.val) / len(self.val)

    def _upscaled(self, stage: Stage, network: nn.Module, sample: Sample) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=stage.precision == "bf16"):
            sr = network(sample.lr, sample.factor) if self.conditioned else network(sample.lr)
        out: Tensor = sr.float()
        return out

    @torch.no_grad()
    def _validate(self, stage: Stage, network: nn.Module, players: Players, baseline: float | None) -> None:
        kept = {k: v.detach().clone() for k, v in network.state_dict().items()}
        if self.average is not None:
            network.load_state_dict(self.average)
        network.eval()
        psnr, distances = 0.0, []
        judged: tuple[Any, ...] = (..., *[slice(n) for n in judged_patch(stage)])
        for sample in self.val:
            sr = self._upscaled(stage, network, sample)
            psnr += masked_psnr(sr, sample.hr, sample.range) / len(self.val)
            said = players.distance(sample.hr[judged], sr[judged])
            if said is not None:
                distances.append(said)
        distance = sum(distances) / len(self.val)
        self.progress.psnr = psnr
        record = {"val_psnr": psnr, **({} if baseline is None else {"val_baseline_psnr": baseline})}
        self._stop_unless_finite(stage, record)
        if distances:
            record["val_em_distance"] = distance
        score = {"val_psnr": psnr, "em_distance": -abs(distance), "last": float(self.progress.generator_steps)}[
            stage.select
        ]
        self.progress.stale += 1
        if score > self.progress.best.get(stage.name, -math.inf):
            self.progress.stale = 0
            self.progress.best[stage.name] = score
            self.progress.best_step[stage.name] = self.progress.generator_steps
            best = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
            self._write(self.folder / f"best-{stage.name}.pt", {"network": best, **record, "step": self.progress.step})
        if self.progress.stale >= stage.generator.patience:
            self.progress.drops, self.progress.stale = self.progress.drops + 1, 0
        network.load_state_dict(kept)
        network.train()
        self._log({"stage": stage.name, "step": self.progress.step - 1, "val_baseline": self.recipe.regrid, **record})

    def _start_from_best_of_previous(self) -> None:
        if self.progress.stage == 0:
            return
        previous = self.recipe.stages[self.progress.stage - 1].name
        best = torch.load(self.folder / f"best-{previous}.pt", weights_only=True, map_location="cpu")
        self.network.load_state_dict(best["network"])

    # -- state on disk -----------------------------------------------------------------------------------------

    def _write(self, path: Path, state: State) -> None:
        if self.accelerator.is_main_process:
            partial = path.with_name(path.name + ".partial")
            torch.save(state, partial)
            partial.replace(path)

    def _save_checkpoint(self, parts: tuple[nn.Module, Players] | None) -> None:
        if not self.accelerator.is_main_process:
            return
        state: State | None = None
        if parts is not None:
            network, players = parts
            state = {"network": network.state_dict(), "average": self.average, **players.state()}
        self._flush_log()
        name = f"checkpoint-{self.progress.stage:02d}-{self.progress.step:09d}"
        partial = self.folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        torch.save(
            {"identity": self.identity, "progress": vars(self.progress), "stage_state": state}, partial / "state.pt"
        )
        for best in self.folder.glob("best-*.pt"):
            shutil.copyfile(best, partial / best.name)
        final = self.folder / name
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in self._checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def _checkpoints(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("checkpoint-*") if not p.name.endswith(".partial"))

    def _newest(self) -> State | None:
        checkpoints = self._checkpoints()
        if not checkpoints:
            return None
        newest = checkpoints[-1]
        state: State = torch.load(newest / "state.pt", weights_only=True, map_location="cpu")
        if self.accelerator.is_main_process:
            for best in self.folder.glob("best-*.pt"):
                best.unlink()
            for best in newest.glob("best-*.pt"):
                shutil.copyfile(best, self.folder / best.name)
        self.accelerator.wait_for_everyone()
        return state

    def _restore(self, state: State, network: nn.Module, players: Players) -> None:
        network.load_state_dict(state["network"])
        players.restore(state)
        if state["average"] is not None:
            self.average = {k: v.to(self.device) for k, v in state["average"].items()}

    # -- what is told ------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(text, file=sys.stderr, flush=True)

    def _open_log(self) -> None:
        path = self.folder / "log.jsonl"
        if path.exists():
            with path.open("r+b") as stream:
                stream.truncate(self.progress.log_bytes)
        self._stream = path.open("a", encoding="utf-8")
        from torch.utils.tensorboard import SummaryWriter

        self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._global_step())

    def _global_step(self) -> int:
        return sum(s.total_steps() for s in self.recipe.stages[: self.progress.stage]) + self.progress.step

    def _flush_log(self) -> None:
        self._stream.flush()
        self.progress.log_bytes = (self.folder / "log.jsonl").stat().st_size

    def _close_log(self) -> None:
        self._stream.close()
        self._tensorboard.close()

    def _log(self, record: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        rounded = {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in record.items()}
        rounded["seconds"] = round(self.progress.seconds, 2)
        self._stream.write(json.dumps(rounded, allow_nan=False) + "\n")
        for key, value in record.items():
            if isinstance(value, float):
                self._tensorboard.add_scalar(f"{record['stage']}/{key}", value, self._global_step())


def _be_deterministic() -> None:
    """Ask a GPU for the same bits every time, as far as its kernels can; a CPU's give them anyway."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@torch.no_grad()
def _blend(average: State, current: State, decay: float, step: int) -> None:
    """Exponential moving average of weights and running statistics, its memory growing from the start."""
    share = min(decay, (1 + step) / (10 + step))
    for key, value in current.items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - share)
        else:
            average[key].copy_(value)
