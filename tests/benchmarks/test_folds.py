"""Cross-validation by subject: every subject is tested once, by weights that have not seen it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.folds import FoldDataset, assigned, fold_of, refuse_seen
from mrsr_bench.benchmarks.protocol import get_protocol

IXI = "ixi2019-t2-kspace2"


def test_every_subject_is_in_one_fold_whatever_the_order():
    names = [f"IXI{i:03d}" for i in range(23)]
    folds = assigned(names, 5, 0)
    assert sorted(name for fold in folds for name in fold) == names
    assert sorted(len(fold) for fold in folds) == [4, 4, 5, 5, 5]
    assert assigned(names[::-1], 5, 0) == folds
    assert assigned(names, 5, 1) != folds
    with pytest.raises(UserError, match="5 folds take 5 subjects and there are 4"):
        assigned(names[:4], 5, 0)


def test_a_fold_is_the_test_split_and_nobody_is_on_two_sides(bench):
    three = FoldDataset(bench.dataset, 1, 3, 0)
    parts = {split: {case.subject for case in three.cases(split)} for split in ("train", "val", "test", "all")}
    assert [len(parts[split]) for split in ("train", "val", "test", "all")] == [1, 1, 1, 3]
    assert parts["train"] | parts["val"] | parts["test"] == parts["all"]
    tested = [case.subject for k in range(3) for case in FoldDataset(bench.dataset, k, 3, 0).cases("test")]
    assert sorted(tested) == sorted(parts["all"])


def test_only_a_protocol_with_folds_has_any(bench):
    assert fold_of(bench.dataset, get_protocol(IXI), 4).count == 5
    for fold in (-1, 5):
        with pytest.raises(UserError, match="--fold is 0 to 4"):
            fold_of(bench.dataset, get_protocol(IXI), fold)
    with pytest.raises(UserError, match="mdcsrn2020 has no folds"):
        fold_of(bench.dataset, get_protocol("mdcsrn2020"), 0)


@dataclass
class Loaded:
    weights: Any
    weights_sha256: str | None = "abc"


@dataclass
class Config:
    config: dict = field(default_factory=dict)


def weights(**trained):
    return Loaded(Config({"trained": trained}))


def test_weights_that_saw_a_subject_of_the_fold_are_refused(bench):
    fold = FoldDataset(bench.dataset, 0, 3, 0)
    with pytest.raises(UserError, match=r"were trained on subjects of fold 0 \(sub-01\)"):
        refuse_seen("net", weights(dataset="tiny", train_subjects=["sub-01", "sub-02"]), fold, ["sub-01"])
    with pytest.raises(UserError, match=r"subjects of fold 0 \(sub-01\)"):
        refuse_seen(
            "net",
            weights(dataset="tiny-fold-2-of-3", train_subjects=["sub-02"], val_subjects=["sub-01"]),
            fold,
            ["sub-01"],
        )
    with pytest.raises(UserError, match="do not say which subjects"):
        refuse_seen("net", weights(), fold, ["sub-01"])
    refuse_seen("net", weights(dataset="tiny-fold-0-of-3", train_subjects=["sub-02"]), fold, ["sub-01"])
    refuse_seen("net", weights(dataset="elsewhere", train_subjects=["sub-01"]), fold, ["sub-01"])
    refuse_seen("cubic", Loaded(None, None), fold, ["sub-01"])


def test_a_run_of_a_fold_tests_its_subjects_only(bench, monkeypatch):
    from mrsr_bench.benchmarks import evaluate, protocol

    content = {**get_protocol("kspace-2x2x1").content, "metrics": ["psnr"], "folds": {"count": 3, "seed": 0}}
    small = protocol.Protocol(content)
    monkeypatch.setattr(evaluate, "get_protocol", lambda name: small)
    tested = []
    for fold in range(3):
        report = bench.run("linear", protocol="kspace-2x2x1", figures=False, fold=fold)
        tested += report.result["runs"][0]["subjects"]
        assert report.result["dataset"] == f"tiny-fold-{fold}-of-3"
    assert sorted(tested) == ["sub-01", "sub-02", "sub-03"]
