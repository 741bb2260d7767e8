"""`data split` says of every subject where it is, by a committed list, by a rule, or not at all."""

import json

import nibabel
import numpy as np
import pytest

from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.datasets.split_lists import committed, splits_sha256
from mrsr_bench.benchmarks.protocol import sha256_of
from mrsr_bench.cli import main


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["data", "split", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert stop.value.code == 0, err
    return out


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["data", "split", *map(str, arguments)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture
def ixi(tmp_path):
    """Ten subjects of Guy's Hospital, T2, three slices each; not where MRSR_BENCH_DATA would look."""
    (tmp_path / "ixi").mkdir()
    for i in range(2, 12):
        path = tmp_path / "ixi" / f"IXI{i:03d}-Guys-{800 + i}-T2.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 3), np.float32), np.eye(4)), path)
    return tmp_path


def test_a_committed_list_is_printed_without_any_data(tmp_path, capsys):
    listed = committed("prostatex")
    found = json.loads(printed(capsys, "prostatex", "--root", tmp_path, "--json"))
    assert (found["splits"], found["sha256"], found["list"]) == (listed["splits"], listed["sha256"], "prostatex")
    out = " ".join(printed(capsys, "prostatex", "--root", tmp_path).split())
    assert "train (242)" in out
    assert all(subject in out for members in listed["splits"].values() for subject in members)
    assert listed["sha256"] in out.replace(" ", "")


def test_a_rule_is_applied_to_the_subjects_under_the_root(ixi, capsys):
    found = json.loads(printed(capsys, "ixi_guys_t2", "--root", ixi, "--json"))
    dataset = datasets.get("ixi_guys_t2").at(ixi)
    for split, subjects in found["splits"].items():
        assert subjects == [case.subject for case in dataset.cases(split)]
    assert sum(map(len, found["splits"].values())) == 10
    assert found["sha256"] == splits_sha256(found["splits"])
    assert found["rule_sha256"] == sha256_of(committed("ixi"))


def test_the_slice_wise_split_names_slices(ixi, capsys):
    found = json.loads(printed(capsys, "ixi_guys_t2_slicewise_leaks", "--root", ixi, "--json"))
    dataset = datasets.get("ixi_guys_t2_slicewise_leaks").at(ixi)
    assert {name: len(slices) for name, slices in found["splits"].items()} == found["sizes"]
    for split, slices in found["splits"].items():
        assert slices == [case.image for case in dataset.cases(split)]
    assert found["rule_sha256"] == sha256_of(committed("ixi_slicewise_leaks"))


def test_the_phantom_has_fixed_subjects(capsys):
    found = json.loads(printed(capsys, "phantom", "--json"))
    assert found["splits"]["test"] == ["phantom-900", "phantom-901", "phantom-902"]
    assert found["rule"] == "subjects by number: train from 0, val from 800, test from 900"
    assert found["sha256"] == splits_sha256(found["splits"])


@pytest.mark.parametrize("name", ["hcp", "ixi", "ixi_guys_t2_slicewise_leaks", "kirby21", "openneuro_ds000123"])
def test_a_rule_without_subjects_says_how_to_get_them(tmp_path, capsys, name):
    assert refused(capsys, name, "--root", tmp_path).endswith(f"run: mrsr-bench data fetch {name}")


def test_what_has_no_split_of_its_own_is_refused(tmp_path, capsys):
    assert "participants.tsv" in refused(capsys, tmp_path)
    assert "leave it out" in refused(capsys, "phantom", "--root", tmp_path)
    assert "did you mean" in refused(capsys, "prostatx")
