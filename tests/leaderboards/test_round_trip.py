"""From a training to an entry on the board, through the Hub (a server on loopback), as a user and a maintainer go."""

from __future__ import annotations

import json
from pathlib import Path

import hub_server
import numpy as np
import pytest
import yaml

from mrsr_bench.leaderboards.schema import file_name_of, read_submissions
from mrsr_bench.volume import Volume, save

METHOD, PROTOCOL, REPO = "mdcsrn_b1u1_k2", "kspace-2x2x1", "me/tiny"
TOKEN = "hf_" + "m" * 34
RECIPE = {
    "name": "tiny",
    "summary": "two updates, which learn nothing",
    "regrid": "linear",
    "validation_patches": 1,
    "stages": [
        {
            "name": "l1",
            "kind": "supervised",
            "steps": 2,
            "batch": 1,
            "patch": [12, 12, 12],
            "generator": {"lr": 1e-3},
            "validate_every": 2,
            "select": "last",
        }
    ],
}


def head(seed: int, size: int = 28) -> Volume:
    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij"))
    inside = (x**2).sum(0) < 0.8
    data = inside * (100 + 20 * np.sin(9 * x[0] + seed) * np.cos(8 * x[1]) + rng.normal(0, 2, inside.shape))
    return Volume(np.clip(data, 0, None).astype(np.float32), np.eye(4))


@pytest.fixture
def hub():
    hub, server = hub_server.serve()
    hub.users[TOKEN] = "me"
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(hub, tmp_path):
    """The command in a process that knows this Hub; every store is empty at first, and there are three of them."""
    process = hub_server.Client(hub.url, tmp_path / "hf")
    process.env = {"HF_TOKEN": TOKEN, "MRSR_BENCH_HOME": None, "HF_HUB_OFFLINE": None, "MRSR_BENCH_OFFLINE": None}
    yield process
    process.close()
    assert TOKEN not in process.said


def at(client, place: Path) -> None:
    """Go on at another machine: with another store of weights and another cache."""
    client.env["MRSR_BENCH_HOME"] = str(place)


def test_what_is_trained_here_is_published_pulled_run_submitted_run_again_and_shown(client, hub, tmp_path):
    data = tmp_path / "heads"
    for split, seeds in (("train", (0, 1)), ("val", (2,)), ("test", (3, 4))):
        (data / split).mkdir(parents=True)
        for seed in seeds:
            save([head(seed)], data / split / f"sub-{seed}_T1w.nii.gz")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "board").mkdir()
    options = ("--dataset", data, "--protocol", PROTOCOL, "--device", "cpu")

    at(client, tmp_path / "author")
    training = ("--recipe", tmp_path / "tiny.yaml", "--terms", "made up", "--out", tmp_path / "checkpoints")
    client.run("train", "--model", METHOD, *training, *options)
    (trained,) = (tmp_path / "author/weights").iterdir()
    published = client.run("publish", trained, "--repo", REPO, "--out", tmp_path / "card", "--json")
    address = f"hf:{REPO}@{published['revision']}"

    at(client, tmp_path / "reader")
    (pulled,) = client.run("weights", "pull", address, "--json")["pulled"]
    runs = ("--split", "test", "--no-figures", "--out", tmp_path / "runs", "--json")
    # The commit is here, so nothing asks the Hub again; nor are parameters of perceptual metrics to be fetched.
    found = client.run("run", "--model", METHOD, "--weights", address, *options, *runs, MRSR_BENCH_OFFLINE="1")
    assert found["runs"][0]["weights_sha256"] == pulled["sha256"]
    (stored,) = (tmp_path / "runs").glob(f"{PROTOCOL}--*{METHOD}*")
    declared = ("--contact", "author@example.org", "--source", "https://example.org/tiny", "--track", "fixed")
    submission = tmp_path / "submission.json"
    client.run("submit", stored, "-o", submission, *declared, "--json", MRSR_BENCH_OFFLINE="1")
    (one,) = read_submissions(submission)
    assert (one.badge, one.weights.repository, one.weights.revision) == ("self-reported", REPO, published["revision"])

    at(client, tmp_path / "maintainer")
    hub.log.clear()
    again = ("--rerun", "--dataset", data, "--results", tmp_path / "board", "--accept", tmp_path / "board")
    verified = client.run("verify", submission, *again, "--json")
    assert any("/resolve/" in path and path.endswith("model.safetensors") for _, path in hub.log)
    (rerun,) = (entry["rerun"] for entry in verified["submissions"])
    assert rerun["datasets"] == [one.rehearsal.dataset, "heads"]
    assert rerun["largest_psnr_db"] <= 0.01
    (accepted,) = (tmp_path / "board").iterdir()
    site = tmp_path / "site"
    client.run("leaderboard", "build", "--results", tmp_path / "board", "--out", site, "--pictures", "none", "--json")

    (entry,) = json.loads((site / "data/results.json").read_text())["tables"][0]["entries"]
    assert entry["submission"]["badge"] == "re-run"
    assert entry["submission"]["digest"] == one.digest
    assert accepted.name == file_name_of(one)
    (task,) = (site / "tasks").iterdir()
    assert f'<span class="badge rerun" title="run again by us on {", ".join(rerun["datasets"])}">' in task.read_text()
    page = (site / f"methods/{entry['page']}.html").read_text()
    assert f"--weights {address}" in page
    assert "2 subjects (made up)" in page
