"""The weights in the repository: complete, small, and giving what they gave."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import mrsr_bench
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.zoo.cards import declared_since
from mrsr_bench.zoo.inference import build_network, load_method
from mrsr_bench.zoo.inspection import is_picture
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.weights import MODEL, find_weights, load_into, undertrained, verify_golden

FOLDERS = sorted(path.parent for path in Path(mrsr_bench.__file__).parent.glob(f"zoo/methods/*/weights/*/{MODEL}"))
MAX_BYTES, MAX_TOTAL_BYTES = 10_000_000, 60_000_000


@pytest.fixture(autouse=True)
def empty_store(tmp_path, monkeypatch):
    """Nothing but what is shipped."""
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))


def test_weights_are_shipped_and_small():
    assert FOLDERS
    sizes = [(folder / MODEL).stat().st_size for folder in FOLDERS]
    assert max(sizes) < MAX_BYTES
    assert sum(sizes) < MAX_TOTAL_BYTES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_of_weights_is_complete(folder):
    names = {path.name for path in folder.iterdir()}
    pictures = {name for name in names if is_picture(name)}
    assert all(picture in (folder / "README.md").read_text() for picture in pictures)
    assert names - pictures == {MODEL, "config.json", "golden.safetensors", "log.jsonl", "loss.png", "README.md"}
    config = json.loads((folder / "config.json").read_text())
    assert folder.name == f"{config['method']}--{config['protocol']}"
    served = methods.get(config["method"]).groups.get(config["protocol"], (config["protocol"],))
    tasks = [get_protocol(name).content["task"] for name in served]
    assert config["task"] == tasks[0]
    assert config.get("tasks", tasks) == tasks
    assert {t.dtype for t in load_file(folder / MODEL).values() if t.is_floating_point()} == {torch.float16}
    assert [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_shipped_weights_give_their_golden_output(folder):
    config = json.loads((folder / "config.json").read_text())
    spec = methods.get(config["method"])
    weights = find_weights(spec, config["task"])
    assert weights.folder == folder
    network = build_network(spec, config["network"])
    load_into(network, weights)
    assert verify_golden(network, weights) < 1e-4


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_has_its_metadata_and_sections(folder):
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    for section in (
        "## Use",
        "## Training data",
        "## Validation",
        "## Deviations from the paper",
        "Not a medical device",
    ):
        assert section in card


SOURCES = {
    "sub-ds000011": "OpenfMRI ds000011",
    "sub-adi": "FNNDSC/data",
    "sub-uih": "dcm_qa_uih",
    "sub-prisma": "dcm_qa_asl",
    "sub-ms": "open_ms_data",
    "sub-px": "PROSTATEx",
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_names_the_source_of_every_subject_that_was_learnt_from(folder):
    trained = json.loads((folder / "config.json").read_text())["trained"]
    (told,) = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("Sources and terms")]
    for subject in (*trained["train_subjects"], *trained["val_subjects"]):
        (source,) = [name for start, name in SOURCES.items() if subject.startswith(start)]
        assert source in told, subject


def test_weights_by_another_recipe_than_the_papers_are_undertrained():
    assert undertrained(methods.get("mdcsrn_b4u4")) is True
    assert undertrained(methods.get("mdcsrn_b8u4")) is None


@pytest.mark.parametrize("alias", ["mdcsrn", "mdcsrn_gan"])
def test_an_alias_resolves_to_weights_that_ship(alias):
    method = load_method(alias, task="kspace-2x2x1")
    assert method.resolved in methods.get(alias).alias_for
    assert method.weights_sha256


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_of_adversarial_weights_names_its_features_and_all_that_their_recipe_declares(folder):
    config, card = json.loads((folder / "config.json").read_text()), (folder / "README.md").read_text()
    if config["recipe"]["stages"][-1]["game"] is None:
        return
    for loss in config["trained"].get("perceptual", {}).values():
        assert loss["file_sha256"][:16] in card
        assert loss["file_says"]["source"] in card
    spec = methods.get(config["method"])
    for text in (*spec.deviations, *config["recipe"]["deviations"], *declared_since(spec, config)):
        assert f"- {text}\n" in card
