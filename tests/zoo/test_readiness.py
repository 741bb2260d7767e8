"""Every recipe of the zoo can begin, and what would fail only after hours is refused before it begins."""

import numpy as np
import pytest
import torch
from trainings import ADVERSARIAL, CYCLE, SUPERVISED, recipe, trainer, trainer_2d

from mrsr_bench import UserError
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.patches import Prepared, fixed_patches, steps_of
from mrsr_bench.zoo.perceptual import build_perceptual
from mrsr_bench.zoo.readiness import check_training, validation_patch
from mrsr_bench.zoo.trainer import Trainer
from mrsr_bench.zoo.training import resolve_recipe

TRAINED = [spec for spec in methods.all() if spec.recipes and spec.build.startswith("mrsr_bench.")]
PAIRS = [(spec.name, name) for spec in TRAINED for name in spec.recipes]
SIZE = (224, 224, 72)


def noise(spec, shape=SIZE):
    """A volume of noise as `prepare` would make it for a method."""
    step = steps_of(spec)
    shape = tuple(n // s * s for n, s in zip(shape, step, strict=True))
    hr = np.random.default_rng(0).random(shape, dtype=np.float32)
    lr = np.ascontiguousarray(hr[tuple(slice(None, None, s) for s in step)])
    return Prepared("s", lr, hr, np.arange(1000, dtype=np.int32), 1.0, step, 2.0)


@pytest.mark.parametrize(("name", "asked"), PAIRS)
def test_every_recipe_of_every_method_can_begin(tmp_path, name, asked):
    spec = methods.get(name)
    chosen = resolve_recipe(spec, asked).model_copy(update={"validation_patches": 2})
    network = build_network(spec, chosen.network)
    volume = noise(spec)
    one = Trainer(network, chosen, [volume], [volume], tmp_path, identity={}, spec=spec)
    assert len(one.val) == 2


def test_the_papers_gan_stage_for_slices_of_224_takes_its_step(tmp_path):
    spec = methods.get("srgan_4x")
    paper = resolve_recipe(spec, "paper")
    game = paper.stages[1].game.model_copy(update={"warmup": 1})
    stage = paper.stages[1].model_copy(update={"batch": 1, "steps": 1, "discriminator_width": 2, "game": game})
    chosen = paper.model_copy(update={"stages": (stage,), "validation_patches": 1})
    volume = noise(spec, (224, 224, 1))
    loss = {"gan": build_perceptual(stage.perceptual.model_copy(update={"layer": "conv1_1"}))}
    one = Trainer(build_network(spec), chosen, [volume], [volume], tmp_path, identity={}, spec=spec, perceptual=loss)
    assert one.val[0].hr.shape == (1, 1, 224, 224)
    one.run()
    assert (tmp_path / "best-gan.pt").is_file()


def test_validation_sees_at_least_what_a_critic_judges_along_every_axis():
    assert validation_patch(recipe(SUPERVISED, ADVERSARIAL), 3) == (40, 40, 40)
    assert validation_patch(recipe(SUPERVISED, {**ADVERSARIAL, "patch": [24, 48, 24]}), 3) == (40, 48, 40)
    assert validation_patch(recipe({**SUPERVISED, "patch": [224, 224, 1]}), 2) == (96, 96, 1)
    assert validation_patch(recipe({**CYCLE, "patch": [224, 1, 64]}), 2) == (224, 1, 96)


def test_a_critic_is_compared_with_what_there_is_along_every_axis():
    """A patch of 96 x 1 x 64 fits a volume that is shorter than 96 along the slices."""
    spec = methods.get("srgan_through_plane")
    chosen = resolve_recipe(spec, "quick")
    volume = noise(spec, (96, 100, 80))
    facts = {"dims": 2, "turn": True}
    val = fixed_patches([volume], 4, validation_patch(chosen, 2), 0, **facts)
    assert {tuple(sample.hr.shape[2:]) for sample in val} == {(80, 96)}
    check_training(chosen, [volume], val, **facts)
    short = fixed_patches([noise(spec, (96, 90, 80))], 4, validation_patch(chosen, 2), 0, **facts)
    with pytest.raises(UserError, match=r"judges patches of 64 x 96 voxels, but a validation image gives 80 x 90"):
        check_training(chosen, [volume], short, **facts)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (({**CYCLE, "patch": [24, 24, 24]},), "learns from patches of one slice.*has 24 x 24 x 24"),
        (({**CYCLE, "patch": [24, 1, 1]},), "learns from patches of one slice.*has 24 x 1 x 1"),
        (({**SUPERVISED, "patch": [8, 8, 1]}, {**CYCLE, "patch": [32, 1, 32]}), "8 x 8 x 1 and 32 x 1 x 32"),
        (
            ({**SUPERVISED, "patch": [8, 8, 1]}, {**CYCLE, "patch": [64, 64, 1]}),
            "smaller than the patch of 64 x 64 x 1",
        ),
        (({**SUPERVISED, "patch": [8, 8, 1]}, {**CYCLE, "patch": [16, 16, 1]}), "at least 32 samples"),
    ],
)
def test_patches_that_do_not_suit_a_2d_network_are_refused_before_training(tmp_path, stages, words):
    with pytest.raises(UserError, match=words):
        trainer_2d(tmp_path, stages)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({**ADVERSARIAL, "patch": [8, 8, 1]}, "3D network learns from patches of several slices"),
        ({**ADVERSARIAL, "patch": [8, 8, 24]}, "smaller than the patch of 8 x 8 x 24"),
        ({**ADVERSARIAL, "discriminator_net": "srgan"}, "srgan judges 2D patches, not 8 x 8 x 8"),
    ],
)
def test_a_later_stage_is_checked_before_the_first_one_trains(tmp_path, stage, words):
    with pytest.raises(UserError, match=words):
        trainer(tmp_path, (SUPERVISED, stage))


def test_slices_that_leave_nothing_at_the_layer_are_refused_before_training(tmp_path):
    features = {"backbone": "vgg19", "layer": "conv5_1", "planes": ["axial"]}
    stage = {**ADVERSARIAL, "losses": {"perceptual": 1.0, "adversarial": 1.0}, "perceptual": features}
    loss = {"gan": build_perceptual(recipe(stage).stages[0].perceptual)}
    with pytest.raises(UserError, match="a slice of 8 x 8 pixels leaves nothing at conv5_1"):
        trainer(tmp_path, (SUPERVISED, stage), perceptual=loss)


def test_a_turned_patch_must_fit_too():
    spec = methods.get("srgan_through_plane")
    chosen = resolve_recipe(spec, "quick")
    volume = noise(spec, (96, 80, 64))
    val = fixed_patches([noise(spec, (96, 96, 64))], 2, validation_patch(chosen, 2), 0, dims=2)
    with pytest.raises(UserError, match="smaller than the patch of 1 x 96 x 64"):
        check_training(chosen, [volume], val, dims=2, turn=True)
    assert torch.is_tensor(val[0].hr)
