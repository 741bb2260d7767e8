"""Who plays in a stage of a training: the network alone, against a critic, or in a cycle of two of each.

A `Players` holds what a stage trains besides the network, and makes one move at a time. Wasserstein critics follow
Gulrajani et al. 2017 (arXiv 1704.00028), discriminators Goodfellow et al. 2014 with logits (arXiv 1406.2661), the cycle
GAN-CIRCLE (You et al. 2019, arXiv 1808.04256).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mrsr_bench.zoo.discriminators import build_discriminator, gradient_penalty
from mrsr_bench.zoo.losses import (
    bce_discriminator,
    bce_generator,
    cycle_consistency,
    identity,
    joint_sparsifying,
    l1,
    mse,
    total_variation,
    wasserstein_critic,
    wasserstein_generator,
)
from mrsr_bench.zoo.optimisers import optimiser_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mrsr_bench.zoo.patches import Batch
    from mrsr_bench.zoo.recipe import Stage

_OF_PAIRS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": l1, "mse": mse}

Record = dict[str, float]
Check = Callable[[Record], None]
"""Raises where a number of a record is not finite."""


@dataclass
class Table:
    """What every player of a stage shares; ``drops`` plateaus and ``moves`` of the network lie behind it."""

    stage: Stage
    model: nn.Module
    device: torch.device
    seed: int
    check: Check
    conditioned: bool = False
    perceptual: nn.Module | None = None
    untrained: nn.Module | None = None
    drops: int = 0
    moves: int = 0
    memory_format: torch.memory_format = torch.contiguous_format
    backward: Callable[[Tensor], None] = field(default=lambda loss: loss.backward())

    def autocast(self) -> torch.autocast:
        """bfloat16 where the stage asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.stage.precision == "bf16")

    def run(self, network: nn.Module, batch: Batch) -> Tensor:
        """``network`` over the LR of ``batch``, float32."""
        with self.autocast():
            sr = network(batch.lr, batch.factor) if self.conditioned else network(batch.lr)
        out: Tensor = sr.float()
        return out

    def update(self, module: nn.Module, optimiser: torch.optim.Optimizer, clip: float | None) -> None:
        """One optimiser step, unless a gradient is not finite: then the weights stay as they are."""
        norm = nn.utils.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)
        self.check({"gradient norm": float(norm)})
        optimiser.step()

    def compared(self, sr: Tensor, hr: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The losses of the stage that compare SR with HR, or judge SR alone."""
        for name in self.stage.losses:
            if name in _OF_PAIRS:
                yield name, _OF_PAIRS[name](sr, hr)
            elif name == "total_variation":
                yield name, total_variation(sr)
            elif name == "perceptual":
                assert self.perceptual is not None
                with self.autocast():
                    value = self.perceptual(sr, hr, step=self.moves)
                yield name, value.float()

    def total(self, values: Record, terms: Iterator[tuple[str, Tensor]] | list[tuple[str, Tensor]]) -> Tensor:
        """The weighted sum of ``terms``; each is noted in ``values`` before weighting."""
        loss = torch.zeros((), device=self.device)
        for name, value in terms:
            loss = loss + self.stage.losses[name] * value  # type: ignore[index]
            values[name] = float(value.detach())
        return loss


class Players:
    """The network alone: a supervised stage."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.optimisers = {"network": optimiser_for(table.model, table.stage.generator)}
        self.modules: dict[str, nn.Module] = {}

    @property
    def generator(self) -> torch.optim.Optimizer:
        """The optimiser of the network."""
        return self.optimisers["network"]

    def move_network(self, batch: Batch, generator_steps: int) -> Record:
        """One update of the network."""
        table = self.table
        table.moves = generator_steps
        set_lr(self.generator, table.stage.generator.lr_at(generator_steps, table.stage.steps, table.drops))
        record: Record = {}
        loss = self._loss(batch, record)
        self.generator.zero_grad(set_to_none=True)
        for optimiser in self._with_network():
            optimiser.zero_grad(set_to_none=True)
        table.backward(loss)
        self._step()
        return {"loss": float(loss.detach()), **record}

    def move_critic(self, batch: Batch, step: int) -> Record:
        """One update of whoever judges."""
        raise NotImplementedError("a supervised stage has no critic")

    def _loss(self, batch: Batch, record: Record) -> Tensor:
        table = self.table
        return table.total(record, table.compared(table.run(table.model, batch), batch.hr))

    def _with_network(self) -> list[torch.optim.Optimizer]:
        """Optimisers that move when the network does."""
        return []

    def _step(self) -> None:
        self.table.update(self.table.model, self.generator, self.table.stage.generator.clip)

    def distance(self, hr: Tensor, sr: Tensor) -> float | None:
        """What the critic says of HR minus what it says of SR; None without a critic."""
        return None

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs besides the network."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where `state` was taken."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])


class Adversaries(Players):
    """The network against a critic (``wgan_gp``) or a discriminator (``gan``)."""

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        self.critic = self._judge("critic")

    def _judge(self, name: str) -> nn.Module:
        stage = self.table.stage
        assert stage.discriminator is not None
        judge = new_judge(self.table)
        self.modules[name] = judge
        self.optimisers[name] = optimiser_for(judge, stage.discriminator)
        return judge

    @property
    def wasserstein(self) -> bool:
        """Whether the judge is a critic with a gradient penalty."""
        return self.table.stage.kind != "gan"

    def opinion(self, judge: nn.Module, image: Tensor) -> Tensor:
        """What ``judge`` says of every image of a batch, float32."""
        with self.table.autocast():
            said: Tensor = judge(image.contiguous(memory_format=self.table.memory_format))
        return said.float()

    def fooling(self, judge: nn.Module, sr: Tensor) -> Tensor:
        """The network's adversarial loss; no gradient reaches the judge."""
        with frozen(judge):
            said = self.opinion(judge, sr)
        return wasserstein_generator(said) if self.wasserstein else bce_generator(said)

    def _loss(self, batch: Batch, record: Record) -> Tensor:
        table = self.table
        sr = table.run(table.model, batch)
        terms = [*table.compared(sr, batch.hr), ("adversarial", self.fooling(self.critic, sr))]
        return table.total(record, terms)

    def move_critic(self, batch: Batch, step: int) -> Record:
        """One update of the critic on a batch of HR and SR."""
        with torch.no_grad():
            sr = self.table.run(self.table.model, batch)
        return self._teach("critic", batch.hr, sr, step)

    def _teach(self, name: str, real: Tensor, fake: Tensor, step: int) -> Record:
        table, stage = self.table, self.table.stage
        assert stage.discriminator is not None
        judge, optimiser = self.modules[name], self.optimisers[name]
        set_lr(optimiser, stage.discriminator.lr_at(step, stage.total_steps()))
        of_real, of_fake = self.opinion(judge, real), self.opinion(judge, fake)
        loss = (wasserstein_critic if self.wasserstein else bce_discriminator)(of_real, of_fake)
        record = {"em_distance": float((of_real.mean() - of_fake.mean()).detach())}
        if self.wasserstein:
            draw = torch.Generator().manual_seed(table.seed * 1_000_003 + step)
            shape = (real.shape[0], *[1] * (real.dim() - 1))
            mix = torch.rand(shape, generator=draw).to(table.device)
            penalty = gradient_penalty(judge, real, fake, mix)
            record["penalty"] = float(penalty.detach())
            loss = loss + stage.gradient_penalty * penalty
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        table.update(judge, optimiser, stage.discriminator.clip)
        return {"d_loss": float(loss.detach()), **record}

    def distance(self, hr: Tensor, sr: Tensor) -> float:
        """What the critic says of HR minus what it says of SR, mean over the batch."""
        return float((self.opinion(self.critic, hr) - self.opinion(self.critic, sr)).mean())


class Cycle(Adversaries):
    """GAN-CIRCLE: the network makes HR of LR, a second one, which starts untrained, LR of HR, and each has a critic.

    Losses over both directions: adversarial; ``cycle`` (there and back is where one came from); ``identity`` (what is
    HR already stays); and where pairs exist, l1 and mse, of SR with HR and of the second network's LR with LR. Those
    also teach the second network alone while the critics warm up: until it makes LR, the cycle pulls the first one
    away from what it has learnt. ``joint_sparsifying``, ``total_variation`` and ``perceptual`` are of SR alone.
    """

    def __init__(self, table: Table) -> None:
        super().__init__(table)
        assert table.untrained is not None
        self.back = copy.deepcopy(table.untrained).to(table.device).to(memory_format=table.memory_format)
        self.modules["back"] = self.back
        self.back_settings = table.stage.back or table.stage.generator
        self.optimisers["back"] = optimiser_for(self.back, self.back_settings)
        self.critic_of_lr = self._judge("critic_of_lr")

    def _with_network(self) -> list[torch.optim.Optimizer]:
        return [self.optimisers["back"]]

    def _loss(self, batch: Batch, record: Record) -> Tensor:
        table, losses = self.table, self.table.stage.losses

        def there(image: Tensor) -> Tensor:
            return table.run(table.model, batch._replace(lr=image))

        def back(image: Tensor) -> Tensor:
            return table.run(self.back, batch._replace(lr=image))

        lr, hr = batch.lr, batch.hr
        sr, coarse = there(lr), back(hr)
        of_lr = dict(self._pairs(coarse, lr))
        terms = [(name, value + of_lr.get(name, 0.0)) for name, value in table.compared(sr, hr)]
        terms.append(("adversarial", self.fooling(self.critic, sr) + self.fooling(self.critic_of_lr, coarse)))
        if "cycle" in losses:
            terms.append(("cycle", cycle_consistency(lr, back(sr), hr, there(coarse))))
        if "identity" in losses:
            terms.append(("identity", identity(hr, there(hr), lr, back(lr))))
        if "joint_sparsifying" in losses:
            reference = hr if table.stage.paired else lr
            terms.append(("joint_sparsifying", joint_sparsifying(sr, reference, table.stage.tau)))
        return table.total(record, terms)

    def _pairs(self, coarse: Tensor, lr: Tensor) -> Iterator[tuple[str, Tensor]]:
        """What the second network's LR is compared with LR by."""
        for name, loss in _OF_PAIRS.items():
            if name in self.table.stage.losses:
                yield name, loss(coarse, lr)

    def _step(self) -> None:
        super()._step()
        assert self.table.stage.game is not None
        self._step_back(self.table.stage.game.steps_for(self.table.moves + 1) - 1)

    def _step_back(self, step: int) -> None:
        optimiser = self.optimisers["back"]
        set_lr(optimiser, self.back_settings.lr_at(step, self.table.stage.total_steps(), self.table.drops))
        self.table.update(self.back, optimiser, self.back_settings.clip)

    def move_critic(self, batch: Batch, step: int) -> Record:
        """One update of both critics, each of its own kind of batch; in their warm-up the second network learns too."""
        stage = self.table.stage
        assert stage.game is not None
        teaching = step < stage.game.warmup and any(name in stage.losses for name in _OF_PAIRS)
        with torch.no_grad():
            sr = self.table.run(self.table.model, batch)
        with torch.set_grad_enabled(teaching):
            coarse = self.table.run(self.back, batch._replace(lr=batch.hr))
        taught: Record = {}
        if teaching:
            loss = self.table.total(taught, self._pairs(coarse, batch.lr))
            self.optimisers["back"].zero_grad(set_to_none=True)
            self.table.backward(loss)
            self._step_back(step)
        record = self._teach("critic", batch.hr, sr, step)
        of_lr = self._teach("critic_of_lr", batch.lr, coarse.detach(), step)
        return {**record, **{f"{name}_of_lr": value for name, value in (of_lr | taught).items()}}


def players_for(table: Table) -> Players:
    """The players of ``table.stage``, freshly made from the seed."""
    kinds: dict[str, type[Players]] = {
        "supervised": Players,
        "wgan_gp": Adversaries,
        "gan": Adversaries,
        "cycle": Cycle,
    }
    torch.manual_seed(table.seed)
    return kinds[table.stage.kind](table)


def new_judge(table: Table) -> nn.Module:
    """A critic or discriminator for the patches of a stage."""
    stage = table.stage
    judge = build_discriminator(stage.discriminator_net, judged_patch(stage), stage.discriminator_width)
    return judge.to(table.device).to(memory_format=table.memory_format)


def judged_patch(stage: Stage) -> tuple[int, ...]:
    """The size of what a judge sees: the patch without the axis of one voxel, height first."""
    if 1 not in stage.patch:
        return stage.patch
    return tuple(reversed([n for n in stage.patch if n != 1]))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = lr


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient for the parameters of ``module`` inside the block."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
