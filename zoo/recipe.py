"""Recipe: how a method is trained, as data. One YAML per recipe; stages run one after the other.

A stage is ``supervised`` (losses between SR and HR), ``wgan_gp`` (a generator against a Wasserstein critic with a
gradient penalty), ``gan`` (against a discriminator, binary cross-entropy) or ``cycle`` (two generators and two critics,
LR to HR and back). Everything a training does follows from the recipe, the seed and the data; nothing is hidden in
code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrsr_bench import UserError
from mrsr_bench.zoo.regrid import Interpolation

Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Names become folder and file names."""
Turn = Literal["d", "g"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(_Data):
    """Adam or Muon (`zoo.optimisers`) and its learning rate over a stage.

    ``constant``; ``cosine``: warm-up, then down to ``final`` of ``lr``; ``linear``: ``lr`` for the share ``hold`` of
    the stage, then straight down to ``final`` of it at the end; ``plateau``: divided by ``divide`` whenever the
    validation has not improved ``patience`` times in a row, and the stage ends when that has happened ``cycles`` times.
    """

    method: Literal["adam", "muon"] = "adam"
    lr: PositiveFloat
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    schedule: Literal["constant", "cosine", "linear", "plateau"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0
    final: Annotated[float, Field(ge=0, le=1)] = 0.01
    hold: Annotated[float, Field(ge=0, lt=1)] = 0.5
    divide: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 3.0
    patience: Positive = 5
    cycles: Positive = 3
    clip: PositiveFloat | None = None

    def lr_at(self, step: int, steps: int, drops: int = 0) -> float:
        """The learning rate of update ``step`` (from 0) of ``steps``, after ``drops`` plateaus."""
        import math

        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "plateau":
            return self.lr / self.divide**drops
        if self.schedule == "linear":
            start = self.hold * steps
            share = min(1.0, max(0.0, (step - start) / max(1.0, steps - start)))
            return self.lr * (1 - share * (1 - self.final))
        share = (step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


class Perceptual(_Data):
    """Which features a perceptual loss compares: a timm backbone's layer, on slices of the planes named.

    ``activated`` takes the features after the layer's ReLU. ``resize`` brings slices smaller than that many pixels to
    that size first. ``slices`` is how many slices of each plane are compared at every step (None: all).
    """

    backbone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,64}$")] = "vgg19"
    layer: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,64}$")] = "conv5_4"
    activated: bool = False
    planes: Annotated[tuple[Literal["axial", "sagittal", "coronal"], ...], Field(min_length=1)] = (
        "axial",
        "sagittal",
        "coronal",
    )
    resize: Positive | None = None
    slices: Positive | None = None


class Game(_Data):
    """Who moves when: the critic alone for ``warmup`` steps, then ``d_per_g`` critic steps per generator step,
    and ``extra_d`` more critic steps after every ``extra_every`` generator steps."""

    warmup: Annotated[int, Field(ge=0)] = 10_000
    d_per_g: Positive = 5
    extra_every: Positive = 500
    extra_d: Annotated[int, Field(ge=0)] = 200

    def turn(self, step: int) -> Turn:
        """Whose step this is (from 0)."""
        if step < self.warmup:
            return "d"
        place = (step - self.warmup) % (self.extra_every * (self.d_per_g + 1) + self.extra_d)
        if place >= self.extra_every * (self.d_per_g + 1):
            return "d"
        return "g" if place % (self.d_per_g + 1) == self.d_per_g else "d"

    def steps_for(self, generator_steps: int) -> int:
        """Steps of both players until the generator has moved ``generator_steps`` times."""
        if generator_steps == 0:
            return 0
        rounds = (generator_steps - 1) // self.extra_every
        return self.warmup + generator_steps * (self.d_per_g + 1) + rounds * self.extra_d


Loss = Literal["l1", "mse", "perceptual", "adversarial", "total_variation", "cycle", "identity", "joint_sparsifying"]
_OF_A_CYCLE = ("cycle", "identity", "joint_sparsifying")


class Stage(_Data):
    """One stage of a training. ``steps`` counts generator updates, ``epoch`` how many of them are an epoch.

    ``patch`` is in HR voxels along R, A, S; a 2D method's has one axis of 1. ``paired`` is for ``cycle`` stages:
    without it LR and HR patches come from different places and the losses that compare SR with HR are not allowed.
    ``tau`` weighs the two halves of the joint sparsifying transform. ``back`` is the optimiser of a cycle's second
    network, over the steps of all players; without it ``generator`` is.
    """

    name: Name
    kind: Literal["supervised", "wgan_gp", "gan", "cycle"]
    steps: Positive
    batch: Positive = 6
    patch: tuple[Positive, Positive, Positive] = (40, 40, 40)
    epoch: Positive | None = None
    losses: Annotated[dict[Loss, Weight], Field(min_length=1)] = {"l1": 1.0}
    perceptual: Perceptual | None = None
    paired: bool = True
    tau: Annotated[float, Field(ge=0, le=1)] = 0.1
    generator: Optimiser
    discriminator: Optimiser | None = None
    back: Optimiser | None = None
    discriminator_net: Literal["mdcsrn", "srgan", "cpce", "circle"] = "mdcsrn"
    discriminator_width: Positive = 64
    gradient_penalty: Weight = 10.0
    game: Game | None = None
    ema: Decay = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    validate_every: Positive = 1000
    select: Literal["val_psnr", "em_distance", "last"] = "val_psnr"

    def model_post_init(self, _context: Any) -> None:
        """A critic needs its optimiser and its game, and every loss what it compares."""
        if self.kind != "supervised" and (self.discriminator is None or self.game is None):
            raise ValueError(f"a {self.kind} stage needs discriminator and game")
        if self.kind == "supervised" and "adversarial" in self.losses:
            raise ValueError("an adversarial loss needs a wgan_gp, gan or cycle stage")
        if self.kind != "supervised" and "adversarial" not in self.losses:
            raise ValueError(f"a {self.kind} stage needs an adversarial loss")
        if self.kind != "cycle" and any(name in self.losses for name in _OF_A_CYCLE):
            raise ValueError(f"the losses {', '.join(_OF_A_CYCLE)} need a cycle stage")
        if self.kind != "cycle" and self.back is not None:
            raise ValueError("back needs a cycle stage, which alone has a second network")
        if ("perceptual" in self.losses) != (self.perceptual is not None):
            raise ValueError("a perceptual loss needs its weight in losses and its features in perceptual")
        if not self.paired and (self.kind != "cycle" or {"l1", "mse", "perceptual"} & set(self.losses)):
            raise ValueError("only a cycle stage without l1, mse and perceptual losses can do without pairs")

    def lr_at_epoch(self, epoch: float) -> float:
        """The generator's learning rate after ``epoch`` epochs.

        Raises:
            ValueError: the stage does not say how many updates an epoch has.
        """
        if self.epoch is None:
            raise ValueError(f"the stage {self.name} does not state its epoch")
        return self.generator.lr_at(round(epoch * self.epoch), self.steps)

    def total_steps(self) -> int:
        """Updates of all players."""
        return self.steps if self.game is None else self.game.steps_for(self.steps)


class Recipe(_Data):
    """A whole training.

    ``regrid`` makes the network's input, ``network`` overrides constructor arguments, ``deviations`` go on the card.
    ``shares`` is how often a batch is of which factor, where one training serves several: relative numbers, 1 for a
    factor that is not named, so that all are alike without it.
    """

    name: Name
    summary: str
    regrid: Interpolation
    network: dict[str, Any] = {}
    augment: tuple[Literal["flip", "swap", "scale"], ...] = ()
    shares: dict[PositiveFloat, PositiveFloat] = {}
    validation_patches: Positive = 16
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    deviations: tuple[str, ...] = ()

    def model_post_init(self, _context: Any) -> None:
        """Stages are told apart by their names."""
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"two stages are called {max(names, key=names.count)}")

    def scaled(self, steps: int | None) -> Recipe:
        """The same recipe with the last stage cut or stretched to ``steps`` generator updates."""
        if steps is None:
            return self
        last = self.stages[-1].model_copy(update={"steps": steps})
        return self.model_copy(update={"stages": (*self.stages[:-1], last)})


class TilingConfig(_Data):
    """How trained weights are to be walked over a volume."""

    window: Annotated[int, Field(ge=8, le=1024)]
    margin: Annotated[int, Field(ge=0, le=256)]
    batch_norm: Literal["eval", "tile"]


class WeightsConfig(BaseModel):
    """What a file of weights says of itself; more entries are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: Name
    protocol: str
    task: dict[str, Any]
    tasks: list[dict[str, Any]] = []
    network: dict[str, bool | int | float | str]
    regrid: Interpolation
    tiling: TilingConfig

    @model_validator(mode="after")
    def _one_task_at_least(self) -> WeightsConfig:
        """Weights of one task say so in ``task`` alone; those of several have the first of them there."""
        if not self.tasks:
            return self.model_copy(update={"tasks": [self.task]})
        if self.task not in self.tasks:
            raise ValueError("task is not among tasks")
        return self


def parse_recipe(content: object, source: str) -> Recipe:
    """A `Recipe` from parsed YAML.

    Raises:
        UserError: it has unknown, missing or impossible entries; the first is named.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{source}: {where}: {first['msg']}; correct the recipe") from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        UserError: the file is missing, no YAML, or no recipe.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: is not a YAML file; a recipe is one") from error
    return parse_recipe(content, path.name)
