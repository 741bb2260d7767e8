"""Cards: which features a perceptual loss compared, and what a recipe has declared since weights were trained by it."""

import json
import re

import pytest
import tiny_weights as tiny

from mrsr_bench import UserError
from mrsr_bench.zoo.cards import add_scores, declared_since
from mrsr_bench.zoo.inspection import inspect
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.publish import ancestors_of, lineage
from mrsr_bench.zoo.training import resolve_recipe
from mrsr_bench.zoo.weights import MODEL, sha256_of_file

FEATURES = {"backbone": "vgg19", "layer": "conv3_1", "activated": False, "origin": "file", "fallback": False}
FILE = {"file": "features.safetensors", "file_sha256": "b04ef04782bf4e39" + "0" * 48, "hub": None}


def trained_by(recipe, **trained):
    """A configuration of weights that ``recipe`` (a method's name for it) has made."""
    settings = resolve_recipe(methods.get(tiny.METHOD), recipe).model_dump(mode="json")
    facts = {"dataset": "phantom", "terms": "none", "hardware": "a machine", **trained}
    return tiny.tiny_config(recipe=settings, trained=facts, network=settings["network"], regrid=settings["regrid"])


def card(folder, **trained):
    config = trained_by("quick", **trained)
    return (tiny.tiny_weights(folder, **{k: config[k] for k in ("recipe", "trained")}) / "README.md").read_text()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (
            {**FEATURES, **FILE, "file_says": {"source": "a Caffe\nVGG19"}},
            "compares `vgg19` conv3_1 before the activation, with the parameters of `features.safetensors` (SHA-256 "
            "`b04ef04782bf4e39`). The file says of itself: source: a Caffe VGG19.",
        ),
        (
            {**FEATURES, **FILE, "activated": True, "origin": "hub", "hub": "timm/vgg19.tv_in1k"},
            "conv3_1 after the activation, with the parameters of `features.safetensors` of `timm/vgg19.tv_in1k` on "
            "the Hub (SHA-256 `b04ef04782bf4e39`).",
        ),
        (
            {**FEATURES, "origin": "random", "fallback": True, "file": None, "file_sha256": None},
            "with random orthogonal parameters: the trained ones could not be had.",
        ),
    ],
)
def test_a_card_says_which_features_the_perceptual_loss_compared(tmp_path, loss, words):
    (line,) = [
        text
        for text in card(tmp_path / "w", perceptual={"gan": loss}).splitlines()
        if text.startswith("The perceptual loss of its stage `gan` ")
    ]
    assert line.endswith(words)
    assert "perceptual loss of its stage" not in card(tmp_path / "without")


def test_what_a_recipe_declares_later_reaches_the_card_and_not_the_recipe_that_was_followed(tmp_path):
    config = trained_by("quick")
    *kept, last = config["recipe"]["deviations"]
    config["recipe"]["deviations"] = kept
    folder = tiny.tiny_weights(tmp_path / "w", **{key: config[key] for key in ("recipe", "trained")})
    assert last not in (folder / "README.md").read_text()
    assert last not in add_scores(folder, []).read_text()
    assert f"- {last}\n" in add_scores(folder, [], declare=True).read_text()
    written = json.loads((folder / "config.json").read_text())
    assert written["further_deviations"] == [last]
    assert written["recipe"]["deviations"] == kept
    inspect(folder)


def test_a_recipe_that_trains_otherwise_by_now_declares_nothing_for_older_weights():
    spec = methods.get(tiny.METHOD)
    config = trained_by("quick")
    assert declared_since(spec, config) == []
    config["recipe"]["stages"][-1]["steps"] = 7  # as --steps does
    assert declared_since(spec, config) == []
    config["recipe"]["stages"][-1]["batch"] += 1
    with pytest.raises(UserError, match="the recipe quick is not what these weights were trained by"):
        declared_since(spec, config)
    config = trained_by("quick")
    config["recipe"]["name"] = "gone"
    with pytest.raises(UserError, match="the recipe gone is not"):
        declared_since(spec, config)


GAMES = [
    (spec.name, name)
    for spec in methods.all()
    if spec.build.startswith("mrsr_bench.")
    for name in spec.recipes
    if name not in ("paper", "unpaired") and resolve_recipe(spec, name).stages[-1].game is not None
]


@pytest.mark.parametrize(("name", "recipe"), GAMES)
def test_a_short_recipe_declares_the_learning_rates_of_its_adversarial_stage(name, recipe):
    chosen = resolve_recipe(methods.get(name), recipe)
    stage = chosen.stages[-1]
    assert stage.discriminator is not None
    (told,) = [text for text in chosen.deviations if re.search("in the (adversarial|GAN|cycle) stage Adam", text)]
    for settings in (stage.generator, stage.discriminator, *([stage.back] if stage.back else [])):
        assert f"{settings.lr:.0e}".replace("e-0", "e-") in told
        assert f"{settings.betas[0]:g}, {settings.betas[1]:g}" in told


def told(digest, parent=None, **trained):
    return {"sha256": digest * 64, **trained_by("quick", parent_sha256=parent and parent * 64, **trained)}


def test_a_card_knows_weights_that_are_gone_from_what_those_that_began_from_them_tell(tmp_path):
    recipe = trained_by("quick")["recipe"]
    trained = {"dataset": "phantom", "hardware": "a machine", "parent_sha256": "a" * 64}
    ancestors = [told("a", "b", seconds=600.0), told("b", seconds=5400.0)]
    folder = tiny.tiny_weights(tmp_path / "w", recipe=recipe, trained=trained, ancestors=ancestors)
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("It started from")]
    assert ["`" + "a" * 64 in lines[0], "`" + "b" * 64 in lines[1]] == [True, True]
    assert [lines[0].endswith("; 10 minutes."), lines[1].endswith("; 90 minutes.")] == [True, True]
    assert [entry["sha256"][0] for entry in ancestors_of(inspect(folder))] == [
        sha256_of_file(folder / MODEL)[0],
        "a",
        "b",
    ]


@pytest.mark.parametrize("ancestors", [7, [7], [{"sha256": "a" * 64}], [told("a", "b"), told("b", "a")]])
def test_a_lineage_ends_whatever_a_configuration_tells(ancestors):
    config = {"trained": {"parent_sha256": "a" * 64}, "ancestors": ancestors}
    configs, lost = lineage(config)
    assert (len(configs), lost) in [(1, "a" * 64), (3, None)]
