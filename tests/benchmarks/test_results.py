"""Stored pieces are found again only when nothing that matters changed and nothing was damaged; runs appear whole."""

import json

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks import results
from mrsr_bench.benchmarks.results import (
    PieceStore,
    Row,
    ingredients,
    piece_key,
    plain,
    read_run,
    read_scores,
    write_run,
)

BASE = {
    "method": {"name": "m", "version": 1, "arguments": {}},
    "weights_sha256": "aa",
    "protocol_hash": "pp",
    "degradation": {"name": "k", "version": 1},
    "metrics": {"psnr": 1, "ssim": 1},
    "seed": 0,
    "dtype": "float32",
    "tiling": {"window": 96, "margin": 17},
    "batch_norm": "eval",
    "device": "cpu",
}
IMAGES = [("T1w", "f1")]
CHANGES = {
    "method": {"name": "m", "version": 2, "arguments": {}},
    "weights_sha256": "bb",
    "protocol_hash": "qq",
    "degradation": {"name": "k", "version": 2},
    "metrics": {"psnr": 1, "ssim": 2},
    "seed": 1,
    "dtype": "bfloat16",
    "tiling": {"window": 64, "margin": 17},
    "batch_norm": "tile",
    "device": "cuda",
}


def key(subject="sub-01", images=IMAGES, **changes):
    return piece_key(ingredients(**{**BASE, **changes}), subject, images)


@pytest.mark.parametrize("name", sorted(BASE))
def test_a_change_of_any_ingredient_is_a_miss(tmp_path, name):
    store = PieceStore(tmp_path)
    store.put(key(), {"rows": []})
    assert store.get(key()) == {"rows": []}
    assert store.get(key(**{name: CHANGES[name]})) is None


def test_every_ingredient_is_in_the_test_above():
    assert set(CHANGES) == set(BASE) == set(ingredients(**BASE)) - {"format"}


@pytest.mark.parametrize("change", [{"subject": "sub-02"}, {"images": [("T1w", "f2")]}, {"images": [("T2w", "f1")]}])
def test_another_subject_or_image_is_a_miss(tmp_path, change):
    store = PieceStore(tmp_path)
    store.put(key(), {"rows": []})
    assert store.get(key(**change)) is None


def test_a_new_storage_format_is_a_miss(monkeypatch):
    before = key()
    monkeypatch.setattr(results, "FORMAT", results.FORMAT + 1)
    assert key() != before


@pytest.mark.parametrize("damage", ["truncate", "edit", "empty", "garbage", "other key"])
def test_a_damaged_piece_is_a_miss(tmp_path, damage):
    store = PieceStore(tmp_path)
    store.put(key(), {"rows": [{"value": 28.042}]})
    path = store.path(key())
    text = path.read_text()
    damaged = {
        "truncate": text[: len(text) // 2],
        "edit": text.replace("28.042", "29.042"),
        "empty": "",
        "garbage": "[]",
        "other key": text.replace(key(), key(seed=1)),
    }[damage]
    path.write_text(damaged)
    assert store.get(key()) is None


def test_a_piece_leaves_no_temporary_file(tmp_path):
    store = PieceStore(tmp_path)
    store.put(key(), {"rows": []})
    assert [p.name for p in store.path(key()).parent.iterdir()] == [f"{key()}.json"]


def test_plain_data_never_holds_nan_infinity_or_numpy():
    value = {"a": np.float32(1.5), "b": [float("nan"), np.inf], "c": np.arange(2), "d": (1, None), 3: np.int64(4)}
    assert plain(value) == {"a": 1.5, "b": [None, None], "c": [0, 1], "d": [1, None], "3": 4}
    json.dumps(plain(value), allow_nan=False)


ROWS = [
    Row("sub-01", "T1w", None, "psnr", "volume-wise", 28.042),
    Row("sub-01", "T1w", 17, "piqe", "slice", None, "no parameters", "fewer than 4 x 4 blocks"),
]
RUN = {
    "dataset": "d",
    "seed": 0,
    "subjects": ["sub-01"],
    "protocol": "p",
    "protocol_hash": "h",
    "scores": {"psnr": {"mean": float("nan")}},
}


def test_a_run_is_a_folder_that_reads_back(tmp_path):
    figure = tmp_path / "f.png"
    figure.write_bytes(b"png")
    folder = write_run(tmp_path / "runs", "p--d--m", RUN, ROWS, {"sub-01.png": figure})
    assert read_scores(folder / "scores.parquet") == ROWS
    assert read_run(folder)["scores"]["psnr"]["mean"] is None
    assert (folder / "figures" / "sub-01.png").read_bytes() == b"png"


def test_a_run_that_crashes_while_written_leaves_the_older_one(tmp_path, monkeypatch):
    write_run(tmp_path, "r", RUN, ROWS, {})

    def crash(*_):
        raise RuntimeError("power cut")

    monkeypatch.setattr(results, "write_scores", crash)
    with pytest.raises(RuntimeError):
        write_run(tmp_path, "r", {**RUN, "protocol": "new"}, ROWS, {})
    assert read_run(tmp_path / "r")["protocol"] == "p"
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_run_replaces_an_older_one_of_its_name(tmp_path):
    write_run(tmp_path, "r", RUN, ROWS, {})
    write_run(tmp_path, "r", {**RUN, "protocol": "new"}, ROWS[:1], {})
    assert read_run(tmp_path / "r")["protocol"] == "new"
    assert len(read_scores(tmp_path / "r" / "scores.parquet")) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"protocol": "p"}'])
def test_what_is_not_a_run_is_refused_in_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match="run"):
        read_run(tmp_path)


def test_an_output_that_is_a_file_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="--out"):
        results.check_writable(tmp_path / "runs")


def test_what_another_process_has_begun_in_the_same_place_is_left_alone(tmp_path):
    theirs = tmp_path / ".r.1.partial"
    (theirs / "figures").mkdir(parents=True)
    write_run(tmp_path, "r", {"mine": 1}, [], {})
    assert theirs.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".r.1.partial", "r"]


def test_a_run_that_another_process_puts_in_the_place_meanwhile_is_replaced_whole(tmp_path, monkeypatch):
    place = tmp_path / "r"
    rename, raced = type(place).rename, []

    def racing(self, target):
        if str(target) == str(place) and not raced:
            raced.append(self)
            (place / "figures").mkdir(parents=True)
        return rename(self, target)

    monkeypatch.setattr(type(place), "rename", racing)
    write_run(tmp_path, "r", {"mine": 1}, [], {})
    assert raced
    assert json.loads((place / "run.json").read_text()) == {"mine": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
