"""From a folder of images to weights that load: training end to end, what is exported, and what is refused."""

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.folder import FolderDataset
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.volume import Volume, save
from mrsr_bench.zoo.cards import add_scores
from mrsr_bench.zoo.inference import build_network, load_method
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.training import fitted, train_method
from mrsr_bench.zoo.weights import MODEL, describe, find_weights, load_into, sha256_of_file, verify_golden

MODEL_NAME = "mdcsrn_b1u2_k2"
TASK = "kspace-2x2x1"
RECIPE = {
    "name": "tiny",
    "summary": "tiny",
    "regrid": "zero_fill",
    "network": {"global_skip": True},
    "validation_patches": 2,
    "deviations": ["everything is tiny"],
    "stages": [
        {
            "name": "l1",
            "kind": "supervised",
            "steps": 4,
            "batch": 1,
            "patch": [12, 12, 12],
            "generator": {"lr": 1e-3},
            "validate_every": 2,
        }
    ],
}
GAN_STAGE = {
    "name": "gan",
    "kind": "wgan_gp",
    "steps": 2,
    "batch": 1,
    "patch": [12, 12, 12],
    "losses": {"l1": 1.0, "adversarial": 0.1},
    "generator": {"lr": 1e-4},
    "discriminator": {"lr": 1e-4},
    "discriminator_width": 2,
    "game": {"warmup": 1, "d_per_g": 1, "extra_every": 5, "extra_d": 0},
    "validate_every": 1,
    "select": "last",
}


def ball(seed, size=26):
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    inside = (x**2).sum(0) < 0.8
    data = inside * (100 + 20 * np.sin(9 * x[0] + seed) * np.cos(8 * x[1]) + rng.normal(0, 2, inside.shape))
    return Volume(np.clip(data, 0, None).astype(np.float32), np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for split, seeds in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        (root / split).mkdir()
        for seed in seeds:
            save(ball(seed), root / split / f"sub-{seed}_T1w.nii.gz")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """One tiny training, used by all tests of this file; they do not change it."""
    work = tmp_path_factory.mktemp("work")
    recipe = work / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    patch = pytest.MonkeyPatch()
    patch.setenv("MRSR_BENCH_HOME", str(work / "home"))
    folder = train_method(MODEL_NAME, FolderDataset(data), recipe=str(recipe), out=work / "checkpoints")
    yield SimpleNamespace(folder=folder, work=work, recipe=recipe, data=data)
    patch.undo()


def test_everything_that_belongs_to_weights_is_there(trained):
    assert trained.folder.name == f"{MODEL_NAME}--{TASK}"
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "golden.safetensors", "log.jsonl", "loss.png", "README.md"}
    tensors = load_file(trained.folder / MODEL)
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float16}


def test_the_golden_tensors_are_what_the_rounded_weights_give(trained):
    weights = find_weights(methods.get(MODEL_NAME), get_protocol(TASK).content["task"])
    network = build_network(methods.get(MODEL_NAME), weights.config["network"])
    load_into(network, weights)
    assert verify_golden(network, weights) <= 1e-5
    with torch.no_grad():
        network.head.bias += 0.1
    with pytest.raises(UserError, match="golden"):
        verify_golden(network, weights)


def test_the_card_says_data_deviations_and_that_it_is_undertrained(trained):
    card = (trained.folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "mrsr-bench"
    for text in (
        "Undertrained",
        "sub-0, sub-1",
        "sub-2",
        "everything is tiny",
        "Not a medical device",
        "re-implementation",
    ):
        assert text in card


def test_the_card_takes_scores_only_of_runs_with_these_weights(trained, tmp_path):
    import shutil

    folder = tmp_path / trained.folder.name
    shutil.copytree(trained.folder, folder)
    sha = find_weights(methods.get(MODEL_NAME), None).sha256
    run = {
        "dataset": "test",
        "protocol": TASK,
        "resolved": MODEL_NAME,
        "split": "test",
        "seed": 0,
        "subjects": ["sub-3"],
        "protocol_hash": "a" * 64,
        "weights_sha256": sha,
        "scores": {"psnr": {"mean": 31.25, "ci95": None, "n": 1, "per_subject": {"sub-3": 31.25}}},
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    card = add_scores(folder, [tmp_path / "run.json"]).read_text()
    assert "| sub-3 | 31.2500 |" in card
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["results"][0]["metrics"][0]["value"] == 31.25
    (tmp_path / "run.json").write_text(json.dumps({**run, "weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="other weights"):
        add_scores(folder, [tmp_path / "run.json"])


def test_a_trained_method_upscales_in_the_units_of_lr(trained):
    method = load_method(MODEL_NAME, task=TASK)
    assert (method.resolved, method.weights_sha256 is not None) == (MODEL_NAME, True)
    protocol = get_protocol(TASK)
    pair = FolderDataset(trained.data).cases("test")[0].acquire(_degradation(protocol), protocol.settings, 0)
    sr = method.upscale(pair.lr, pair.hr.grid)
    louder = method.upscale(pair.lr.with_data(pair.lr.data * 1000), pair.hr.grid)
    assert sr.grid.same_as(pair.hr.grid)
    np.testing.assert_allclose(louder.data, sr.data * 1000, rtol=1e-3, atol=50)
    assert np.abs(sr.data - pair.hr.data).mean() < 10


def _degradation(protocol):
    from mrsr_bench.benchmarks.degradations import degradations

    return degradations.get(protocol.degradation)


def test_listings_tell_which_tasks_have_weights(trained):
    assert describe(methods.get(MODEL_NAME)) == [TASK]
    assert describe(methods.get("mdcsrn_b7u2")) == "missing"
    assert describe(methods.get("cubic")) == "none needed"


def test_weights_of_the_same_task_serve_every_protocol_that_shares_it(trained):
    assert (
        load_method(MODEL_NAME, task="mdcsrn2020").weights_sha256 == load_method(MODEL_NAME, task=TASK).weights_sha256
    )


def test_training_again_uses_the_finished_checkpoint(trained, capsys):
    before = (trained.folder / MODEL).read_bytes()
    train_method(MODEL_NAME, FolderDataset(trained.data), recipe=str(trained.recipe), out=trained.work / "checkpoints")
    assert (trained.folder / MODEL).read_bytes() == before


def test_a_finished_training_leaves_no_prepared_volumes(trained):
    assert [path.name for path in (trained.work / "checkpoints" / MODEL_NAME).iterdir()] == [f"{TASK}-tiny"]


def test_a_gan_starts_from_its_twin_where_there_is_one(trained, tmp_path, capsys):
    recipe = tmp_path / "gan.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "stages": [*RECIPE["stages"], GAN_STAGE]}))
    folder = train_method(
        "mdcsrn_gan_b1u2_k2", FolderDataset(trained.data), recipe=str(recipe), out=tmp_path / "checkpoints"
    )
    config = json.loads((folder / "config.json").read_text())
    twin = find_weights(methods.get(MODEL_NAME), None)
    assert config["trained"]["parent_sha256"] == twin.sha256
    assert [stage["name"] for stage in config["recipe"]["stages"]] == ["gan"]
    assert "starting from the weights of mdcsrn_b1u2_k2" in capsys.readouterr().err


def test_a_training_begins_with_the_weights_that_are_named(trained, tmp_path, copy_of_weights, monkeypatch, capsys):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    still = {**RECIPE["stages"][0], "generator": {"lr": 1e-12}, "steps": 1, "ema": 0.0, "validate_every": 1}
    recipe = tmp_path / "tune.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "name": "tune", "stages": [still]}))

    def tune(**more):
        place = {"recipe": str(recipe), "out": tmp_path / "checkpoints", **more}
        return train_method(MODEL_NAME, FolderDataset(trained.data), **place)

    before, after = load_file(copy_of_weights), load_file(tune(weights=copy_of_weights) / MODEL)
    running = ("running_mean", "running_var", "num_batches_tracked")
    assert all(torch.equal(before[key], after[key]) for key in before if not key.endswith(running))
    config = json.loads((tmp_path / "home" / "weights" / f"{MODEL_NAME}--{TASK}" / "config.json").read_text())
    assert config["trained"]["parent_sha256"] == sha256_of_file(copy_of_weights)
    assert f"starting from {copy_of_weights}" in capsys.readouterr().err
    with pytest.raises(UserError, match="other weights to begin with"):
        tune()
    changed = {**RECIPE, "name": "tune", "stages": [still], "regrid": "linear"}
    recipe.write_text(yaml.safe_dump(changed))
    tune(weights=copy_of_weights, fresh=True)
    assert "these weights know zero_fill input, and the recipe tune makes linear input" in capsys.readouterr().err
    recipe.write_text(yaml.safe_dump({**changed, "network": {"global_skip": False}}))
    with pytest.raises(UserError, match=r"these weights were trained with network .*True.* has .*False"):
        tune(weights=copy_of_weights, fresh=True)
    with pytest.raises(UserError, match="no such weights file"):
        tune(weights=tmp_path / "none.safetensors")


def test_the_card_gives_the_validation_of_the_weights_that_were_kept(trained):
    config = json.loads((trained.folder / "config.json").read_text())["validation"]
    records = map(json.loads, (trained.folder / "log.jsonl").read_text().splitlines())
    psnr = next(r["val_psnr"] for r in records if "val_psnr" in r and r["step"] == config["best_step"] - 1)
    card = (trained.folder / "README.md").read_text()
    assert f"of step {config['best_step']}: PSNR {psnr:.3f} dB over at most 2 validation patches" in card
    assert f"{config['psnr_regrid']:.3f} dB for their zero_fill input" in card
    assert f"{config['psnr_by_batch_norm']['eval']:.3f} dB with the running statistics" in card


DEEPER = "mdcsrn_b2u2_k2"


def test_a_deeper_network_begins_by_giving_what_the_smaller_one_gave(copy_of_weights):
    small = build_network(methods.get(MODEL_NAME), {"global_skip": True}, seed=0)
    load_into(small, find_weights(methods.get(MODEL_NAME), None, copy_of_weights))
    drawn = build_network(methods.get(DEEPER), {"global_skip": True}, seed=1)
    tensors, taken = fitted(drawn.state_dict(), small.state_dict())
    assert taken == len(small.state_dict())
    drawn.load_state_dict(tensors)
    x = torch.rand(1, 1, 9, 8, 7)
    assert torch.allclose(drawn.eval()(x), small.eval()(x), atol=1e-6)


def test_only_tensors_that_fit_are_taken():
    drawn = {
        "same": torch.zeros(2, 3),
        "longer": torch.ones(4, 3),
        "shorter": torch.ones(2),
        "turned": torch.ones(3, 2),
    }
    given = {"same": torch.full((2, 3), 5.0), "longer": torch.full((2, 3), 6.0), "shorter": torch.full((3,), 7.0)}
    tensors, taken = fitted(drawn, {**given, "turned": torch.zeros(2, 3), "unknown": torch.zeros(1)})
    assert taken == 2
    assert set(tensors) == set(drawn)
    assert torch.equal(tensors["same"], given["same"])
    assert torch.equal(tensors["longer"], torch.cat((given["longer"], torch.ones(2, 3))))
    assert all(torch.equal(tensors[name], drawn[name]) for name in ("shorter", "turned"))


def test_a_training_begins_with_what_fits_of_another_network(trained, tmp_path, copy_of_weights, monkeypatch, capsys):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    begin = {"recipe": str(recipe), "out": tmp_path / "checkpoints", "weights": copy_of_weights}
    folder = train_method(DEEPER, FolderDataset(trained.data), **begin)
    config = json.loads((folder / "config.json").read_text())
    assert (config["method"], config["trained"]["parent_sha256"]) == (DEEPER, sha256_of_file(copy_of_weights))
    (ancestor,) = config["ancestors"]
    assert (ancestor["method"], ancestor["sha256"]) == (MODEL_NAME, sha256_of_file(copy_of_weights))
    assert ancestor["trained"] == json.loads((trained.folder / "config.json").read_text())["trained"]
    assert f"tensors of {DEEPER} are those of {MODEL_NAME}" in capsys.readouterr().err

    def stranger(tensors, _metadata):
        for name in list(tensors):
            tensors[f"other.{name}"] = tensors.pop(name)

    rewritten(copy_of_weights, stranger)
    with pytest.raises(UserError, match=f"no tensor of them fits {DEEPER}"):
        train_method(DEEPER, FolderDataset(trained.data), **begin, fresh=True)


@pytest.fixture
def copy_of_weights(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((trained.folder / MODEL).read_bytes())
    return path


def rewritten(path, change):
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(str(path), framework="pt") as opened:
        metadata = opened.metadata()
    change(tensors, metadata)
    save_file(tensors, str(path), metadata=metadata)
    return path


def test_an_explicit_path_is_used(copy_of_weights):
    assert load_method(MODEL_NAME, task=TASK, weights=copy_of_weights).resolved == MODEL_NAME


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, m: t["stem.weight"].fill_(float("nan")), "stem.weight holds NaN"),
        (lambda t, m: t.pop("stem.bias"), "stem.bias is missing"),
        (lambda t, m: t.update({"extra": torch.zeros(1)}), "extra is missing, unknown"),
        (lambda t, m: t.update({"stem.bias": torch.zeros(3)}), "stem.bias is missing, unknown or of another shape"),
        (lambda t, m: m.clear(), "does not say which method"),
        (lambda t, m: m.update(mrsr_bench="{not json"), "configuration"),
        (lambda t, m: m.update(mrsr_bench="[]"), "configuration"),
        (lambda t, m: m.update(mrsr_bench='{"method": "cubic"}'), "configuration"),
    ],
)
def test_damaged_weights_are_refused_in_one_sentence(copy_of_weights, change, words):
    with pytest.raises(UserError, match=words) as caught:
        load_method(MODEL_NAME, task=TASK, weights=rewritten(copy_of_weights, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.pkl", "w.ckpt", "w.bin"])
def test_pickles_are_refused_without_being_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(UserError, match=r"safetensors only"):
        load_method(MODEL_NAME, task=TASK, weights=path)


@pytest.mark.parametrize("content", [b"", b"garbage", struct.pack("<Q", 2**40) + b"{}"])
def test_files_that_are_no_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable safetensors"):
        load_method(MODEL_NAME, task=TASK, weights=path)


def test_weights_of_another_method_or_nowhere_are_refused(copy_of_weights, tmp_path):
    with pytest.raises(UserError, match=f"weights of {MODEL_NAME}, not of mdcsrn_b4u4"):
        load_method("mdcsrn_b4u4", task=TASK, weights=copy_of_weights)
    with pytest.raises(UserError, match="no such weights"):
        load_method(MODEL_NAME, task=TASK, weights=tmp_path / "nowhere.safetensors")
    with pytest.raises(UserError, match="takes no weights"):
        load_method("cubic", task=TASK, weights=copy_of_weights)


def test_data_that_cannot_train_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="nothing to train"):
        train_method("cubic", FolderDataset(data))
    with pytest.raises(UserError, match="steps"):
        train_method(MODEL_NAME, FolderDataset(data), steps=0)
    big = {**RECIPE, "stages": [{**RECIPE["stages"][0], "patch": [64, 64, 64]}]}
    recipe = tmp_path / "big.yaml"
    recipe.write_text(yaml.safe_dump(big))
    with pytest.raises(UserError, match="smaller than the patch"):
        train_method(MODEL_NAME, FolderDataset(data), recipe=str(recipe), out=tmp_path / "c")
