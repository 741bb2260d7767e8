"""Weights from somewhere else: whatever is wrong with them ends in one sentence."""

from __future__ import annotations

import json

import pytest
import tiny_weights as tiny
import torch
from safetensors.torch import load_file, save_file

from mrsr_bench import UserError
from mrsr_bench.zoo.inspection import check_names, check_size, compare, inspect, is_picture, read_config
from mrsr_bench.zoo.pins import shipped_folders

NAMES = ["model.safetensors", "config.json", "golden.safetensors"]


@pytest.fixture
def folder(tmp_path):
    return tiny.tiny_weights(tmp_path / "weights")


def change_config(folder, **changes):
    config = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps(config))
    return config


def change_tensors(folder, change, config=None):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    tiny.save_tensors(folder, tensors, config or json.loads((folder / "config.json").read_text()))


def test_sound_weights_pass(folder):
    weights = inspect(folder)
    assert weights.config["method"] == tiny.METHOD
    assert weights.file == folder / "model.safetensors"


def test_scores_may_stand_in_the_configuration_alone(folder):
    change_config(folder, scores=[])
    inspect(folder)


def test_the_words_of_a_card_may_be_corrected(tmp_path):
    folder = tiny.tiny_weights(tmp_path / "weights")
    words = {"deviations": [], "summary": "brief"}
    tiny.save_tensors(folder, load_file(folder / "model.safetensors"), change_config(folder, recipe=words))
    trained = json.loads((folder / "config.json").read_text())["trained"]
    change_config(
        folder,
        recipe={"deviations": ["one that was forgotten"], "summary": "a minute"},
        trained={**trained, "terms": "as the source states them"},
    )
    inspect(folder)
    change_config(folder, trained={**trained, "dataset": "hcp"})
    with pytest.raises(UserError, match="different things of trained"):
        inspect(folder)


@pytest.mark.parametrize("name", sorted(shipped_folders()))
def test_what_ships_says_what_its_tensors_file_says(name):
    folder = shipped_folders()[name]
    compare(json.loads((folder / "config.json").read_text()), folder / "model.safetensors", name)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "subprocess.Popen"}, "unknown here"),
        ({"method": "linear"}, "no weights of its own"),
        ({"method": "mdcsrn"}, "no weights of its own"),
        ({"method": ["mdcsrn"]}, "names no method"),
        ({"method_version": 99}, "version 99"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "never loads"),
        ({"architectures": ["UNet"]}, "never loads"),
        ({"regrid": "nearest"}, "different things of regrid"),
    ],
)
def test_a_configuration_that_cannot_be_believed_is_refused(folder, changes, expected):
    change_config(folder, **changes)
    with pytest.raises(UserError, match=expected):
        inspect(folder, "hf:me/tiny")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"method": NaN}', '{"method": "a", "method": "b"}', "[" * 100_000, "\0", '{"method": 1e999}'],
)
def test_a_configuration_that_is_no_strict_json_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        read_config(folder / "config.json", "hf:me/tiny")


def test_an_argument_that_the_method_does_not_leave_open_is_refused(folder):
    config = change_config(folder, network={"blocks": 90})
    change_tensors(folder, lambda tensors: None, config)
    with pytest.raises(UserError, match="blocks"):
        inspect(folder)


def test_a_network_that_the_file_cannot_hold_is_not_built(folder):
    config = change_config(folder, method="mdcsrn_b99u99_k99")
    change_tensors(folder, lambda tensors: None, config)
    with pytest.raises(UserError, match="too small"):
        inspect(folder)


def first(tensors):
    return next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)


def with_nan(tensors):
    tensors[first(tensors)].view(-1)[0] = float("nan")


def of_another_shape(tensors):
    name = first(tensors)
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def one_less(tensors):
    del tensors[first(tensors)]


def one_more(tensors):
    tensors["extra"] = torch.zeros(1)


def other_values(tensors):
    tensors[first(tensors)] += 0.5


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_nan, "NaN"),
        (of_another_shape, "another shape"),
        (one_less, "missing"),
        (one_more, "unknown"),
        (other_values, "golden"),
    ],
)
def test_tensors_that_are_not_the_methods_are_refused(folder, change, expected):
    change_tensors(folder, change)
    with pytest.raises(UserError, match=expected):
        inspect(folder)


@pytest.mark.parametrize(
    "golden",
    [
        {},
        {"input": torch.rand(1, 1, 8, 8, 8)},
        {"input": torch.rand(1, 1, 8, 8, 8), "output": torch.zeros(1, 1, 8, 8, 8)},
        {"input": torch.rand(1, 1, 8, 8, 8), "output": torch.full((1, 1, 8, 8, 8), float("nan"))},
        {"input": torch.rand(3, 8), "output": torch.rand(3, 8)},
        {"input": torch.rand(1, 1, 8, 8, 8), "output": torch.rand(1, 1, 7, 8, 8)},
    ],
    ids=["empty", "no output", "zero", "nan", "wrong rank", "wrong shape"],
)
def test_golden_tensors_that_prove_nothing_are_refused(folder, golden):
    save_file(golden, folder / "golden.safetensors")
    with pytest.raises(UserError):
        inspect(folder)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x80\x04\x95pickle"])
def test_files_that_are_something_else_are_refused(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError):
        inspect(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError):
        inspect(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/b.PKL", "m.ckpt", "net.py", "lib.so", "run.SH"])
def test_pickles_and_code_are_refused_wherever_they_lie(name):
    with pytest.raises(UserError, match="nothing was fetched"):
        check_names([*NAMES, name], "hf:me/tiny")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "C:\\x", "c:x", "a\\b", "a\0b", "a\x1b[2J"])
def test_paths_out_of_the_folder_are_refused_and_not_echoed_raw(name):
    with pytest.raises(UserError, match="no plain path") as caught:
        check_names([*NAMES, name], "hf:me/tiny")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size", [None, -1, "12", 2**40])
def test_a_size_must_be_known_and_bearable(size):
    with pytest.raises(UserError):
        check_size("config.json", size, "hf:me/tiny")
    assert check_size("config.json", 12, "hf:me/tiny") == 12


@pytest.mark.parametrize(
    ("name", "expected"),
    [("failure--sub-1.png", True), ("failure--../x.png", False), ("failure--.png", False), ("x.png", False)],
)
def test_only_pictures_of_failures_belong_to_weights(name, expected):
    assert is_picture(name) is expected
