"""Whether a training can go through: what would fail only after hours is refused before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.zoo.discriminators import build_discriminator
from mrsr_bench.zoo.patches import Box, check_patch
from mrsr_bench.zoo.perceptual import PerceptualLoss
from mrsr_bench.zoo.players import judged_patch
from mrsr_bench.zoo.recipe import Recipe, Stage

if TYPE_CHECKING:
    from torch import nn

    from mrsr_bench.zoo.patches import Prepared, Sample

VALIDATION_SIZE = 40
VALIDATION_SIZE_2D = 96
VALIDATION_MARGIN = 4


def validation_patch(recipe: Recipe, dims: int) -> Box:
    """What validation looks at, in HR voxels along R, A, S: at least as much as any critic of ``recipe`` judges.

    Raises:
        UserError: the stages of a 2D network do not learn from slices of one and the same plane.
    """
    patches = [stage.patch for stage in recipe.stages]
    size = [VALIDATION_SIZE] * 3
    if dims == 2:
        planes = {patch.index(1) for patch in patches if patch.count(1) == 1}
        if len(planes) != 1 or any(patch.count(1) != 1 for patch in patches):
            found = " and ".join(dict.fromkeys(_times(patch) for patch in patches))
            raise UserError(
                "a 2D network learns from patches of one slice, such as 64 x 64 x 1, of the same plane in every stage; "
                f"the recipe {recipe.name} has {found}"
            )
        size = [1 if axis in planes else VALIDATION_SIZE_2D for axis in range(3)]
    for stage in recipe.stages:
        if stage.kind != "supervised":
            size = [max(pair) for pair in zip(size, stage.patch, strict=True)]
    return (size[0], size[1], size[2])


def check_training(
    recipe: Recipe,
    train: Sequence[Prepared],
    val: Sequence[Sample],
    *,
    dims: int,
    turn: bool,
    processes: int = 1,
    perceptual: Mapping[str, nn.Module] | None = None,
) -> None:
    """Refuse a stage that the volumes, the critic, the perceptual loss or the processes cannot serve.

    Raises:
        UserError: there is one; it is named.
    """
    edge = min(n for sample in val for n in sample.hr.shape[2:])
    if edge <= 2 * VALIDATION_MARGIN:
        raise UserError(
            f"a validation image is {edge} voxels wide along an axis; expected more than {2 * VALIDATION_MARGIN}"
        )
    for stage in recipe.stages:
        check_patch(train, stage.patch, dims=dims, turn=turn)
        if stage.kind != "supervised":
            _check_judge(stage, val)
        loss = (perceptual or {}).get(stage.name)
        if isinstance(loss, PerceptualLoss):
            loss.check(judged_patch(stage))
        if processes > 1 and (stage.kind != "supervised" or stage.batch % processes):
            raise UserError(
                f"stage {stage.name} cannot be shared by {processes} processes: a batch must divide evenly among "
                "them, and adversarial stages run in one process"
            )


def _check_judge(stage: Stage, val: Sequence[Sample]) -> None:
    import torch

    judged = judged_patch(stage)
    with torch.device("meta"):
        build_discriminator(stage.discriminator_net, judged, stage.discriminator_width)
    for sample in val:
        there = tuple(sample.hr.shape[2:])
        if any(n < p for n, p in zip(there, judged, strict=True)):
            raise UserError(
                f"the critic of stage {stage.name} judges patches of {_times(judged)} voxels, but a validation image "
                f"gives {_times(there)}; use smaller patches in the recipe"
            )


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
