"""What would be published (a dry run), the cards, the pins, and the commands' manners; no network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_weights as tiny
import yaml
from huggingface_hub import ModelCard, metadata_load
from huggingface_hub.repocard_data import EvalResult, model_index_to_eval_results

import mrsr_bench
from mrsr_bench import UserError
from mrsr_bench.zoo import pins, store
from mrsr_bench.zoo.cards import metadata_of, worst_subjects, write_card
from mrsr_bench.zoo.hub import parse_address
from mrsr_bench.zoo.inspection import inspect
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.publish import publish
from mrsr_bench.zoo.skeleton import PLACEHOLDERS
from mrsr_bench.zoo.weights import sha256_of_file

SECTIONS = (
    "## What it is",
    "## Use",
    "## Intended use",
    "**Not a medical device**",
    "## Training data and terms",
    "## Protocol",
    "## Scores: tiny",
    "## Failure cases",
    "## Deviations from the paper",
    "## Citation",
)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty store, an empty folder to work in, and no network."""
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path):
    return tiny.tiny_weights(tmp_path / "weights")


def stored_run(folder, weights, *, subjects=("sub-a", "sub-b"), ci95=None, **changes):
    """A run folder as `mrsr-bench run` writes it, as far as publishing reads it."""
    psnr = {subject: 30.0 + index for index, subject in enumerate(subjects)}
    scores = {
        "psnr": {"mean": 30.5, "ci95": ci95, "n": len(subjects), "per_subject": psnr},
        "ssim": {"mean": 0.9, "ci95": None, "n": len(subjects), "per_subject": dict.fromkeys(subjects, 0.9)},
        "niqe": {"mean": None, "ci95": None, "n": 0, "per_subject": {}, "reason": "no parameters"},
    }
    run = {
        "model": tiny.METHOD,
        "resolved": tiny.METHOD,
        "weights_sha256": sha256_of_file(weights / "model.safetensors"),
        "protocol": tiny.PROTOCOL,
        "protocol_hash": "a" * 64,
        "dataset": "tiny",
        "split": "test",
        "seed": 0,
        "subjects": list(subjects),
        "scores": scores,
        **changes,
    }
    (folder / "figures").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run))
    for subject in subjects:
        (folder / "figures" / f"{subject}--0123abcd.png").write_bytes(subject.encode())
    return folder


def test_a_dry_run_writes_the_folder_and_nothing_else(folder, tmp_path):
    done = publish(folder, "me/tiny", dry_run=True, out=tmp_path / "out")
    assert done["published"] is False
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["me--tiny"]
    written = Path(done["folder"])
    assert {path.name for path in written.iterdir()} == {path.name for path in folder.iterdir()}
    assert (written / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert inspect(written).sha256 == done["sha256"]
    again = publish(folder, "me/tiny", dry_run=True, out=tmp_path / "out")
    assert again == done


def test_a_skeleton_is_not_published(folder, tmp_path, monkeypatch):
    spec = methods.get(tiny.METHOD)
    monkeypatch.setattr("mrsr_bench.zoo.publish.method_of", lambda *_: replace(spec, paper=PLACEHOLDERS["paper"]))
    with pytest.raises(UserError, match=r"paper in its method.py are still the skeleton's"):
        publish(folder, "me/tiny", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_puts_its_scores_and_its_worst_subject_on_the_card(folder, tmp_path):
    home = tmp_path / "home/weights" / f"{tiny.METHOD}--{tiny.PROTOCOL}"
    tiny.tiny_weights(home)
    run = stored_run(tmp_path / "runs/one", home, ci95=[29.0, 32.0])
    written = Path(publish(run, "me/tiny", dry_run=True, out=tmp_path / "out")["folder"])
    text = (written / "README.md").read_text()
    for section in SECTIONS:
        assert section in text
    assert "| **mean** [95 % interval] | 30.5000 [29.0000, 32.0000] | 0.9000 |" in text
    assert "the worst psnr is that of sub-a, 30.0000" in text
    picture = f"failure--{tiny.PROTOCOL}--sub-a.png"
    assert (written / picture).read_bytes() == b"sub-a"
    assert f"The worst subject by PSNR under `{tiny.PROTOCOL}`, sub-a:\n\n![sub-a]({picture})" in text
    assert "--weights hf:me/tiny" in text
    assert 'mrsr_bench.load("me/tiny")' in text
    twice = publish(run / "run.json", "me/tiny", dry_run=True, out=tmp_path / "out")
    assert len(json.loads((Path(twice["folder"]) / "config.json").read_text())["scores"]) == 1


def test_a_newer_run_takes_the_older_ones_picture_off_the_card(folder, tmp_path):
    home = tmp_path / "home/weights" / f"{tiny.METHOD}--{tiny.PROTOCOL}"
    tiny.tiny_weights(home)
    run = stored_run(tmp_path / "runs/one", home)
    first = Path(publish(run, "me/tiny", dry_run=True, out=tmp_path / "out")["folder"])
    config = json.loads((first / "config.json").read_text())
    config["scores"][0]["scores"]["psnr"]["per_subject"] = {"sub-a": 31.0, "sub-b": 30.0}
    (home / "config.json").write_text(json.dumps(config))
    (home / f"failure--{tiny.PROTOCOL}--sub-b.png").write_bytes(b"sub-b, by the older run")
    written = Path(publish(run, "me/tiny", dry_run=True, out=tmp_path / "out")["folder"])
    assert [path.name for path in written.glob("failure--*")] == [f"failure--{tiny.PROTOCOL}--sub-a.png"]


def test_the_card_is_what_the_hub_expects(folder, tmp_path):
    run = stored_run(tmp_path / "runs/one", folder, ci95=[29.0, 32.0])
    tiny.tiny_weights(tmp_path / "home/weights" / f"{tiny.METHOD}--{tiny.PROTOCOL}")
    written = Path(publish(run, "me/tiny", dry_run=True, out=tmp_path / "out")["folder"])
    data = ModelCard.load(written / "README.md", ignore_metadata_errors=False).data
    assert (data.library_name, data.license, data.pipeline_tag) == ("mrsr-bench", "apache-2.0", "image-to-image")
    assert {"mri", "super-resolution", "arxiv:2003.01217"} <= set(data.tags)
    assert data.datasets == ["phantom"]
    name, results = model_index_to_eval_results(metadata_load(written / "README.md")["model-index"])
    assert name == tiny.METHOD
    assert all(isinstance(result, EvalResult) for result in results)
    psnr = next(result for result in results if result.metric_type == "psnr")
    assert (psnr.metric_value, psnr.dataset_name, psnr.dataset_config) == (30.5, "tiny", tiny.PROTOCOL)
    assert psnr.metric_args == {"n": 2, "ci95": [29.0, 32.0]}
    assert "niqe" not in {result.metric_type for result in results}
    assert data.eval_results == results


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"dataset": "tiny"}, "PATH/tiny"),
        ({"dataset": "tiny", "suffix": "T2w"}, "PATH/tiny --suffix T2w"),
        ({"dataset": "phantom_2mm"}, "phantom_2mm"),
    ],
)
def test_the_command_of_a_score_names_images_that_are_there(folder, tmp_path, facts, said):
    tiny.tiny_weights(tmp_path / "home/weights" / f"{tiny.METHOD}--{tiny.PROTOCOL}")
    run = stored_run(tmp_path / "runs/one", folder, **facts)
    written = Path(publish(run, "me/tiny", dry_run=True, out=tmp_path / "out")["folder"])
    assert f" --dataset {said} --protocol" in (written / "README.md").read_text()


def test_a_card_says_what_is_known_of_a_method_without_a_paper_and_from_another_package(tmp_path, monkeypatch):
    config = json.loads((tiny.tiny_weights(tmp_path / "net") / "config.json").read_text())
    config["recipe"] = {"name": "quick", "stages": []}
    config["trained"] |= {"hardware": "a processor", "terms": "drawn."}
    spec = methods.get(tiny.METHOD)
    assert "The paper trains far longer" in write_card(spec, config, tmp_path).read_text()
    monkeypatch.setattr(
        "mrsr_bench.zoo.cards.entry_points", lambda **_: [SimpleNamespace(dist=SimpleNamespace(name="mrsr-tiny"))]
    )
    text = write_card(replace(spec, recipes={"quick": "recipes/quick.yaml"}), config, tmp_path).read_text()
    assert "The paper trains" not in text
    assert "longer training may score higher" in text
    assert "pip install mrsr-bench mrsr-tiny\n" in text
    assert "Sources and terms: drawn.\n" in text


def test_weights_without_a_run_have_a_card_that_claims_nothing(folder):
    text = (folder / "README.md").read_text()
    assert "Not known: no stored run" in text
    assert "model-index" not in yaml.safe_load(text.split("---")[1])


def test_a_training_is_published_as_the_weights_that_it_installed(tmp_path):
    home = tiny.tiny_weights(tmp_path / "home/weights" / f"{tiny.METHOD}--{tiny.PROTOCOL}")
    training = tmp_path / "checkpoints/tiny"
    training.mkdir(parents=True)
    (training / "best-l1.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="state of a training"):
        publish(training, "me/tiny", dry_run=True)
    (training / "log.jsonl").write_bytes((home / "log.jsonl").read_bytes())
    for source in (training, training / "best-l1.pt"):
        assert publish(source, "me/tiny", dry_run=True)["sha256"] == sha256_of_file(home / "model.safetensors")


def test_what_cannot_be_published_is_refused_and_leaves_nothing(folder, tmp_path):
    out = tmp_path / "out"
    run = stored_run(tmp_path / "runs/lost", folder)  # of weights that are in no store
    interpolation = stored_run(tmp_path / "runs/linear", folder, weights_sha256=None, resolved="linear")
    broken = tiny.tiny_weights(tmp_path / "broken")
    (broken / "golden.safetensors").write_bytes(b"x")
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, expected in (
        (run, "not here any more"),
        (interpolation, "no weights to publish"),
        (broken, "cannot be run"),
        (empty, "neither a run nor a folder"),
        (tmp_path / "nowhere", "no such run"),
    ):
        with pytest.raises(UserError, match=expected):
            publish(source, "me/tiny", dry_run=True, out=out)
        assert not out.exists() or list(out.iterdir()) == []
    for repo in ("tiny", "me/tiny@main", "../x/y", "me/../tiny"):
        with pytest.raises(UserError):
            publish(folder, repo, dry_run=True, out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be"):
        publish(folder, "me/tiny", dry_run=True, out=tmp_path / "file")


def test_worst_subjects_need_two_subjects_and_know_directions():
    scores = {
        "psnr": {"per_subject": {"a": 30.0, "b": 20.0, "c": None}},
        "nrmse": {"per_subject": {"a": 0.1, "b": 0.2}},
        "ssim": {"per_subject": {"a": 0.9}},
    }
    assert worst_subjects({"scores": scores}) == {"psnr": ("b", 20.0), "nrmse": ("b", 0.2)}


@pytest.mark.parametrize("name", ["mdcsrn_b4u4"])
def test_a_licence_that_the_hub_does_not_know_is_called_other(name):
    from dataclasses import replace

    odd = replace(methods.get(name), licence="PolyForm-Noncommercial-1.0.0")
    metadata = metadata_of(odd, tiny.tiny_config())
    assert (metadata["license"], metadata["license_name"]) == ("other", "polyform-noncommercial-1.0.0")


# ------------------------------------------------------------------------------------------------------------ pins


def test_every_shipped_file_of_weights_is_pinned_and_is_what_was_pinned():
    folders = pins.shipped_folders()
    assert folders
    now = {name: pins.digests(folder) for name, folder in folders.items()}
    assert pins.shipped_pins() == now, "write them again with python -m mrsr_bench.zoo.pins"


def test_every_pin_of_the_hub_is_whole():
    for pin in pins.hub_pins():
        assert parse_address(pin.repo, pin.revision).is_pinned
        assert len(pin.sha256) == 64
        assert int(pin.sha256, 16) >= 0
        assert methods.get(pin.method).kind == "network"
        assert set(pin.protocols) <= set(methods.get(pin.method).tasks)


def test_an_altered_shipped_file_is_found(monkeypatch, tmp_path):
    name, digests = next(iter(pins.shipped_pins().items()))
    monkeypatch.setattr(store, "shipped_pins", lambda: {name: {**digests, "model.safetensors": "0" * 64}})
    monkeypatch.setattr(store, "inspect", lambda folder: None)
    states = {item["name"]: item["state"] for item in store.verify_weights([], lambda line: None)}
    assert "not what this version was released with" in states[name.partition("/")[2]]


# --------------------------------------------------------------------------------------------------- list and verify


def test_local_weights_are_listed_first_and_verified(tmp_path):
    name = f"{tiny.METHOD}--{tiny.PROTOCOL}"
    home = tiny.tiny_weights(tmp_path / "home/weights" / name)
    listed = store.list_weights()
    assert (listed[0]["name"], listed[0]["origin"]) == (name, "local")
    assert {item["origin"] for item in listed[1:]} == {"shipped"}
    for asked in (name, tiny.METHOD, str(home)):
        assert [item["state"] for item in store.verify_weights([asked], lambda line: None)] == ["ok"]
    (home / "golden.safetensors").unlink()
    assert "holds no golden" in store.verify_weights([name], lambda line: None)[0]["state"]
    (home / "config.json").write_text("{")
    assert store.list_weights()[0]["method"].startswith("unreadable")
    with pytest.raises(UserError, match="no weights called"):
        store.verify_weights(["nothing"], lambda line: None)


def test_pulling_asks_for_names_or_all():
    said = []
    for names, everything in (([], False), (["me/x"], True)):
        with pytest.raises(UserError, match="--all"):
            store.pull_weights(names, everything=everything, notify=said.append)
    with pytest.raises(UserError, match="did you mean"):
        store.pull_weights(["mdcsrm"], everything=False, notify=said.append)
    with pytest.raises(UserError, match="MRSR_BENCH_OFFLINE"):
        store.pull_weights(["me/x"], everything=False, notify=said.append)


def test_only_what_its_authors_released_is_imported():
    with pytest.raises(UserError, match="soup_gan"):
        store.import_weights("mdcsrn", None)


# ------------------------------------------------------------------------------------------------------------- load


def test_a_method_of_the_zoo_is_loaded_by_its_name():
    method = mrsr_bench.load("mdcsrn", device="cpu")
    assert method.weights_sha256
    with pytest.raises(UserError, match="no revision"):
        mrsr_bench.load("mdcsrn", revision="main")
    with pytest.raises(UserError, match="no address"):
        mrsr_bench.load("a/b/c")


PROBE = """
import sys
import mrsr_bench
mrsr_bench.load
from mrsr_bench.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("words", [["weights", "--help"], ["weights", "list", "--json"], ["publish", "--help"]])
def test_help_and_listing_load_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()[-1].split()) & {"torch", "scipy", "nibabel", "huggingface_hub"} == set()
