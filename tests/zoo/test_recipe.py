"""Recipes: the papers' numbers, schedules at known steps, the game of critic and generator."""

import pytest

from mrsr_bench import UserError
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.recipe import Game, Optimiser, load_recipe, parse_recipe
from mrsr_bench.zoo.training import resolve_recipe, trainable


def test_the_papers_recipe_is_the_papers():
    recipe = resolve_recipe(methods.get("mdcsrn_gan_b8u4"), "paper")
    l1, gan = recipe.stages
    assert (l1.steps, l1.batch, l1.patch, l1.generator.lr, l1.losses) == (800_000, 6, (40, 40, 40), 1e-4, {"l1": 1.0})
    assert (gan.steps, gan.generator.lr, gan.gradient_penalty) == (200_000, 5e-6, 10.0)
    assert gan.losses == {"l1": 1.0, "adversarial": 0.1}
    assert gan.game == Game(warmup=10_000, d_per_g=5, extra_every=500, extra_d=200)
    assert (gan.discriminator_width, recipe.regrid, gan.select) == (64, "linear", "em_distance")


def test_the_paper_game_at_its_corners():
    game = Game()
    assert {game.turn(s) for s in range(10_000)} == {"d"}
    assert [game.turn(10_000 + s) for s in range(12)] == list("dddddg") * 2
    end = 10_000 + 500 * 6
    assert game.turn(end - 1) == "g"
    assert {game.turn(s) for s in range(end, end + 200)} == {"d"}
    assert [game.turn(end + 200 + s) for s in range(6)] == list("dddddg")


@pytest.mark.parametrize(
    "game", [Game(), Game(warmup=3, d_per_g=2, extra_every=2, extra_d=1), Game(warmup=0, extra_d=0)]
)
@pytest.mark.parametrize("wanted", [1, 2, 3, 7, 501])
def test_the_number_of_steps_is_counted_right(game, wanted):
    steps = game.steps_for(wanted)
    turns = [game.turn(s) for s in range(steps)]
    assert turns.count("g") == wanted
    assert turns[-1] == "g"


def test_learning_rates_at_known_steps():
    cosine = Optimiser(lr=1.0, schedule="cosine", warmup=10, final=0.1)
    assert cosine.lr_at(0, 110) == pytest.approx(0.1)
    assert cosine.lr_at(9, 110) == pytest.approx(1.0)
    assert cosine.lr_at(60, 110) == pytest.approx(0.55)
    assert cosine.lr_at(110, 110) == pytest.approx(0.1)
    assert {Optimiser(lr=2e-4).lr_at(s, 100) for s in range(100)} == {2e-4}
    linear = Optimiser(lr=1e-4, schedule="linear", hold=0.5, final=0.02)
    assert {linear.lr_at(s, 100) for s in range(51)} == {1e-4}
    assert linear.lr_at(75, 100) == pytest.approx(0.51e-4)
    assert linear.lr_at(100, 100) == pytest.approx(2e-6)
    plateau = Optimiser(lr=3e-4, schedule="plateau")
    assert [plateau.lr_at(7, 10, drops) for drops in range(3)] == pytest.approx([3e-4, 1e-4, 1e-4 / 3])


STAGE = {"name": "x", "kind": "supervised", "steps": 1, "generator": {"lr": 1e-3}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": []}, ""),
        ({"unknown": 1}, "unknown"),
        ({"regrid": "magic"}, "regrid"),
        ({"stages": [{"name": "x", "kind": "supervised", "steps": 0, "generator": {"lr": 1}}]}, "steps"),
        ({"stages": [{"name": "x", "kind": "wgan_gp", "steps": 1, "generator": {"lr": 1}}]}, "needs discriminator"),
        ({"stages": [{"name": "x", "kind": "supervised", "steps": 1, "generator": {"lr": -1}}]}, "lr"),
        ({"stages": [{**STAGE, "losses": {"cycle": 1.0}}]}, "need a cycle stage"),
        ({"stages": [{**STAGE, "back": {"lr": 1e-4}}]}, "back needs a cycle stage"),
        ({"stages": [{**STAGE, "losses": {"perceptual": 1.0}}]}, "perceptual"),
        ({"stages": [{**STAGE, "losses": {"adversarial": 1.0}}]}, "adversarial"),
        ({"stages": [{**STAGE, "paired": False}]}, "without"),
        ({"stages": [{**STAGE, "generator": {"lr": float("inf")}}]}, "lr"),
        ({"stages": [{**STAGE, "generator": {"lr": 1e-3, "betas": [2.0, 0.9]}}]}, "betas"),
        ({"stages": [{**STAGE, "generator": {"lr": 1e-3, "betas": [0.9, float("nan")]}}]}, "betas"),
        ({"stages": [{**STAGE, "generator": {"lr": 1e-3, "clip": 0}}]}, "clip"),
        ({"stages": [{**STAGE, "generator": {"lr": 1e-3, "divide": float("inf")}}]}, "divide"),
        ({"stages": [{**STAGE, "gradient_penalty": float("nan")}]}, "gradient_penalty"),
        ({"stages": [{**STAGE, "losses": {"l1": -1.0}}]}, "losses"),
    ],
)
def test_an_impossible_recipe_is_refused_in_one_sentence(change, words):
    good = {
        "name": "r",
        "summary": "s",
        "regrid": "linear",
        "stages": [{"name": "x", "kind": "supervised", "steps": 1, "generator": {"lr": 1e-3}}],
    }
    assert parse_recipe(good, "r.yaml").name == "r"
    with pytest.raises(UserError, match=f"r.yaml.*{words}") as caught:
        parse_recipe({**good, **change}, "r.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2", "just text", "- 1", "\x00"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content):
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"r\.yaml"):
        load_recipe(path)


def test_names_that_cannot_be_trained_are_refused():
    with pytest.raises(UserError, match="nothing to train"):
        trainable("cubic")
    with pytest.raises(UserError, match=r"no recipe called 'fast'.*paper, quick"):
        resolve_recipe(methods.get("mdcsrn_b4u4"), "fast")
    with pytest.raises(UserError, match="cannot be read"):
        resolve_recipe(methods.get("mdcsrn_b4u4"), "nowhere.yaml")
    assert trainable("mdcsrn").name == "mdcsrn_b4u4"


def test_steps_stretch_the_last_stage():
    recipe = resolve_recipe(methods.get("mdcsrn_b4u4"), "paper").scaled(5)
    assert recipe.stages[-1].steps == 5
