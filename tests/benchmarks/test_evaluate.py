"""A run: every method on the same pair, what is finished is kept, what changed is computed again, nothing vanishes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks import availability
from mrsr_bench.benchmarks.datasets.folder import FolderDataset
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.entrants import task_served
from mrsr_bench.benchmarks.evaluate import default_split, first_common_protocol, model_names
from mrsr_bench.benchmarks.metrics import metrics, score
from mrsr_bench.benchmarks.metrics.region import reference_of
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.benchmarks.results import read_run, read_scores
from mrsr_bench.benchmarks.summary import TABLE_METRICS
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.regrid import regrid


def by_model(report):
    return {run["model"]: run for run in report.result["runs"]}


def numbers(report):
    return [{k: s["per_subject"] for k, s in run["scores"].items() if s["n"]} for run in report.result["runs"]]


def subjects_of(bench, cases):
    bench.dataset.all_cases = cases


def more_subjects(bench, n):
    kind = type(bench.dataset.all_cases[0])
    return [kind(f"sub-{i:02d}", "T1w", i, bench.acquired) for i in range(1, n + 1)]


# -- the result ----------------------------------------------------------------------------------------------------


def test_the_result_has_exactly_the_keys_of_the_contract(bench):
    report = bench.run("nearest", "net")
    assert list(report.result) == ["protocol", "protocol_hash", "dataset", "runs"]
    for run in report.result["runs"]:
        assert list(run) == [
            "model",
            "resolved",
            "weights_sha256",
            "subjects",
            "scores",
            "seconds_per_volume",
            "peak_memory_mb",
        ]
        assert set(TABLE_METRICS) <= set(run["scores"])
        assert run["subjects"] == ["sub-01", "sub-02", "sub-03"]
        assert run["seconds_per_volume"] > 0
        assert run["peak_memory_mb"] > 10
    json.dumps(report.result, allow_nan=False)


def test_methods_come_in_the_order_asked_with_typed_and_resolved_name(bench):
    runs = bench.run("net,linear", "nearest").result["runs"]
    assert [(run["model"], run["resolved"]) for run in runs] == [
        ("net", "net_large"),
        ("linear", "linear"),
        ("nearest", "nearest"),
    ]
    assert [run["weights_sha256"] for run in runs] == ["w1", None, None]


def test_a_metric_that_is_not_of_the_protocol_is_the_null_object_with_a_reason(bench):
    niqe = bench.run().result["runs"][0]["scores"]["niqe"]
    assert niqe["reason"]
    assert {k: v for k, v in niqe.items() if k != "reason"} == {"mean": None, "ci95": None, "n": 0}


def test_three_subjects_are_shown_one_by_one_without_interval(bench):
    psnr = bench.run().result["runs"][0]["scores"]["psnr"]
    assert psnr["n"] == 3
    assert psnr["ci95"] is None
    assert psnr["mean"] == pytest.approx(np.mean(list(psnr["per_subject"].values())))
    assert "8" in psnr["reason"]


def test_eight_subjects_have_an_interval(bench):
    subjects_of(bench, more_subjects(bench, 8))
    psnr = bench.run(figures=False).result["runs"][0]["scores"]["psnr"]
    assert psnr["ci95"][0] < psnr["mean"] < psnr["ci95"][1]


def test_psnr_and_nrmse_are_those_of_the_region_by_the_formula(bench):
    case = bench.dataset.all_cases[0]
    pair = case.acquire(degradations.get("kspace_truncation"), {"factor": [2, 2, 1]}, 0)
    reference = reference_of(pair.hr, pair.lr)
    hr, sr = (v.data[reference.region].astype(float) for v in (pair.hr, regrid(pair.lr, pair.hr.grid, "linear")))
    mse = np.mean((sr - hr) ** 2)
    scores = bench.run("linear", subjects=1).result["runs"][0]["scores"]
    assert scores["psnr"]["per_subject"]["sub-01"] == pytest.approx(10 * np.log10(reference.range**2 / mse), abs=1e-4)
    assert scores["nrmse"]["mean"] == pytest.approx(np.sqrt(mse / np.mean(hr**2)), rel=1e-5)


def test_several_images_of_a_subject_count_once(bench):
    kind = type(bench.dataset.all_cases[0])
    subjects_of(bench, [kind("sub-01", f"vol-{i}", i, bench.acquired) for i in (1, 2)])
    report = bench.run()
    psnr = report.result["runs"][0]["scores"]["psnr"]
    rows = read_scores(report.folders[0] / "scores.parquet")
    assert psnr["n"] == 1
    each = [row.value for row in rows if row.metric == "psnr" and row.slice is None]
    assert len(each) == 2
    assert psnr["mean"] == pytest.approx(np.mean(each))


def test_where_the_object_is_known_exactly_it_is_scored_against_too(bench):
    for case in bench.dataset.all_cases:
        case.noise_free = True
    scores = bench.run().result["runs"][0]["scores"]
    for key in ("psnr", "ssim", "nrmse"):
        assert scores[f"{key}_noise_free"]["n"] == 3
        assert scores[f"{key}_noise_free"]["mean"] != scores[key]["mean"]


# -- fairness ------------------------------------------------------------------------------------------------------


def test_each_pair_is_acquired_once_for_all_methods(bench):
    bench.run("linear", "nearest", "net")
    assert bench.acquired == ["sub-01/T1w", "sub-02/T1w", "sub-03/T1w"]
    assert len(bench.seen) == 9


def test_methods_see_neither_path_nor_what_another_did_to_lr(bench):
    alone = numbers(bench.run("linear", out=bench.out / "alone"))
    after = numbers(bench.run("spoils", "linear"))
    assert after[1] == alone[0]
    assert all(volume.provenance == {} for _, volume in bench.seen)


def test_a_run_is_reproducible(bench):
    assert numbers(bench.run("linear", "net")) == numbers(bench.run("linear", "net", out=bench.out / "again"))


# -- what cannot take part -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["refuses", "nan", "untrained", "elsewhere"])
def test_a_method_that_fails_is_named_and_the_others_run(bench, failing):
    report = bench.run("linear", failing, "nearest")
    runs = by_model(report)
    assert report.failed
    assert list(runs[failing]) == ["model", "error"]
    assert failing in runs[failing]["error"]
    assert runs["linear"]["scores"]["psnr"]["n"] == runs["nearest"]["scores"]["psnr"]["n"] == 3
    assert len(report.folders) == 2


def test_all_methods_failing_is_a_report_too(bench):
    report = bench.run("refuses", "untrained")
    assert report.failed
    assert report.folders == ()


@pytest.mark.parametrize("train", [False, True])
def test_weights_that_are_missing_are_trained_only_on_request(bench, train):
    report = bench.run("untrained", "net", train=train)
    assert report.failed is not train
    assert bench.trained == ([("untrained", "tiny", "tiny-protocol")] if train else [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subjects": 0}, "--subjects"),
        ({"subjects": -3}, "--subjects"),
        ({"protocol": "kspace-2x2x2"}, "kspace-2x2x1"),
        ({"weights": "w.safetensors"}, "--weights"),
        ({"device": "gpu"}, "--device"),
    ],
)
def test_impossible_requests_are_refused_before_any_work(bench, options, words):
    with pytest.raises(UserError, match=words):
        bench.run("linear", **options)
    assert bench.acquired == []


def test_subjects_that_are_named_are_run_alone_and_score_as_among_all(bench):
    (whole,) = numbers(bench.run("linear"))
    (alone,) = numbers(bench.run("linear", only=["sub-03,sub-02"], fresh=True))
    assert all(list(per_subject) == ["sub-02", "sub-03"] for per_subject in alone.values())
    assert all(whole[key][name] == value for key, per in alone.items() for name, value in per.items())
    with pytest.raises(UserError, match="--only sub-99: no such subject in the split; its first are sub-01"):
        bench.run("linear", only=["sub-99"])


def test_an_empty_split_is_refused(bench):
    subjects_of(bench, [])
    with pytest.raises(UserError, match="no subject"):
        bench.run()


# -- the cache -----------------------------------------------------------------------------------------------------


def test_the_same_run_again_computes_nothing_and_says_the_same(bench):
    first = bench.run("linear", "net")
    bench.acquired.clear()
    bench.seen.clear()
    second = bench.run("linear", "net")
    assert bench.acquired == []
    assert bench.seen == []
    assert second.result == first.result


def test_more_subjects_reuse_what_is_there(bench):
    bench.run(subjects=2)
    bench.acquired.clear()
    report = bench.run()
    assert bench.acquired == ["sub-03/T1w"]
    assert report.result["runs"][0]["scores"]["psnr"]["n"] == 3


def test_fresh_computes_everything_again(bench):
    bench.run()
    bench.acquired.clear()
    bench.run(fresh=True)
    assert len(bench.acquired) == 3


def test_new_weights_are_run_again_and_the_old_run_stays(bench):
    old = bench.run("net")
    bench.seen.clear()
    bench.weights["net"] = "w2"
    new = bench.run("net")
    assert len(bench.seen) == 3
    assert new.folders != old.folders
    assert read_run(old.folders[0])["weights_sha256"] == "w1"
    assert read_run(new.folders[0])["weights_sha256"] == "w2"


def test_a_changed_image_is_run_again_and_only_that_one(bench):
    bench.run()
    bench.acquired.clear()
    bench.dataset.all_cases[1].revision = "r2"
    bench.run()
    assert bench.acquired == ["sub-02/T1w"]


def test_another_seed_is_run_again(bench):
    bench.run()
    bench.acquired.clear()
    bench.run(seed=1)
    assert len(bench.acquired) == 3


@pytest.mark.parametrize("change", ["metric", "degradation", "method"])
def test_a_new_version_of_metric_degradation_or_method_is_run_again(bench, monkeypatch, change):
    bench.run()
    bench.acquired.clear()
    if change == "degradation":
        monkeypatch.setattr(degradations.get("kspace_truncation"), "version", 99)
    else:
        registry, name = (metrics, "ssim") if change == "metric" else (methods, "linear")
        newer = {**registry._load(), name: replace(registry.get(name), version=99)}
        monkeypatch.setattr(registry, "_components", newer)
    bench.run()
    assert len(bench.acquired) == 3


def test_a_null_for_want_of_parameters_is_not_kept_when_they_come(monkeypatch):
    spec = metrics.get("ma")
    state = {"ma": ({}, "no parameters")}
    monkeypatch.setattr(availability, "parameters_of", lambda key: state[key])
    absent = availability.metric_ingredients([spec])
    state["ma"] = ({"NRQM_model.mat": "aa"}, None)
    present = availability.metric_ingredients([spec])
    assert absent != present
    assert present["ma"]["parameters"] == {"NRQM_model.mat": "aa"}


def test_a_killed_run_is_no_run_and_goes_on_where_it_was(bench):
    with pytest.raises(KeyboardInterrupt):
        bench.run("linear", "killed")
    assert not list(bench.out.glob("*/run.json"))
    bench.behaviours["killed"] = "linear"
    bench.seen.clear()
    report = bench.run("linear", "killed", figures=False)
    # Two subjects were finished by both, the third by the first method only.
    assert [name for name, _ in bench.seen] == ["killed"]
    uninterrupted = bench.run("linear", "killed", out=bench.out / "clean")
    assert numbers(report) == numbers(uninterrupted)


def test_a_corrupt_piece_is_computed_again(bench):
    first = bench.run()
    pieces = sorted((bench.out / ".cache").glob("*/*.json"))
    assert len(pieces) == 3
    pieces[0].write_text(pieces[0].read_text().replace('"psnr"', '"pnsr"'))
    pieces[1].write_text("")
    bench.seen.clear()
    assert numbers(bench.run()) == numbers(first)
    assert len(bench.seen) == 2


# -- what is stored ------------------------------------------------------------------------------------------------


def test_a_run_folder_says_how_its_scores_were_made(bench):
    report = bench.run("net", seed=4)
    run = read_run(report.folders[0])
    assert run["protocol_content"]["task"]["degradation"] == "kspace_truncation"
    assert run["protocol_hash"] == report.protocol.hash
    assert (run["weights_sha256"], run["seed"], run["split"], run["dataset"]) == ("w1", 4, "test", "tiny")
    assert run["ingredients"]["tiling"] == {"window": 96, "margin": 17}
    assert run["ingredients"]["batch_norm"] == "eval"
    assert run["ingredients"]["dtype"] == "float32"
    assert {"psnr", "ssim"} <= set(run["conventions"])
    environment = run["environments"][0]
    assert {"python", "numpy", "torch", "mrsr-bench"} <= set(environment["versions"])
    assert environment["hardware"]["cores"] >= 1
    assert "git_commit" in environment
    for subject in run["subjects"]:
        piece = run["pieces"][subject]
        assert len(piece["seconds"]) == 1
        assert piece["images"][0]["degradation_params"]["factor"] == [2, 2, 1]
        assert len(piece["images"][0]["mask_sha256"]) == 64


def test_every_score_is_stored_with_its_convention(bench):
    rows = read_scores(bench.run().folders[0] / "scores.parquet")
    assert {row.subject for row in rows} == {"sub-01", "sub-02", "sub-03"}
    assert {"psnr", "ssim", "nrmse"} <= {row.metric for row in rows}
    assert all(row.convention for row in rows)
    assert all(row.value is not None or row.reason for row in rows)


# -- figures -------------------------------------------------------------------------------------------------------


def test_a_figure_shows_all_methods_of_a_subject_and_is_drawn_once(bench):
    report = bench.run("linear", "net")
    assert bench.drawn == [(f"sub-{i:02d}", ("linear", "net")) for i in (1, 2, 3)]
    assert all(figure.is_file() for figure in report.figures)
    assert len(list((report.folders[0] / "figures").iterdir())) == 3
    bench.run("linear", "net")
    assert len(bench.drawn) == 3


def test_a_method_that_joins_gets_into_the_figure_without_scoring_the_others_again(bench):
    first = bench.run("linear")
    second = bench.run("linear", "nearest")
    assert bench.drawn[-1] == ("sub-03", ("linear", "nearest"))
    assert by_model(second)["linear"] == by_model(first)["linear"]


def test_no_figures_on_request(bench):
    assert bench.run(figures=False).figures == ()
    assert bench.drawn == []


# -- choosing ------------------------------------------------------------------------------------------------------


def test_names_may_be_repeated_and_comma_separated_and_count_once():
    assert model_names(["cubic,linear", "cubic", " nearest ,"]) == ["cubic", "linear", "nearest"]
    with pytest.raises(UserError, match="--model"):
        model_names([",", " "])


def test_without_a_protocol_the_first_common_one_is_taken(bench):
    chosen = {
        names: first_common_protocol([methods.get(n) for n in names]) for names in (("linear",), ("linear", "net"))
    }
    assert set(chosen.values()) == {"kspace-2x2x1"}
    assert first_common_protocol([methods.get("elsewhere"), methods.get("linear")]) == "thick-4"


def test_weights_of_a_common_task_enter_the_papers_protocol_of_the_same_degradation(bench):
    spec = methods.get("elsewhere")
    assert task_served(spec, get_protocol("thick-4")) == "thick-4"
    assert task_served(spec, get_protocol("soup2022-thick-4")) == "thick-4"
    assert task_served(spec, get_protocol("real-thick-4")) == "thick-4"
    for other in ("soup2022-thin-4", "soup2022-thick-3", "real", "kspace-2x2x1"):
        assert task_served(spec, get_protocol(other)) is None


def test_a_real_scan_is_scored_without_any_comparison(bench):
    (run,) = bench.run("net", protocol="real", subjects=1).result["runs"]
    scores = run["scores"]
    assert all(scores[key]["mean"] is None for key in ("psnr", "ssim", "nrmse"))
    assert "data_consistency" not in scores
    assert scores["piqe"]["n"] == 1 or scores["piqe"]["reason"]
    (_, lr), *_ = bench.seen
    np.testing.assert_array_equal(lr.data, bench.dataset.all_cases[0].hr().data)
    assert bench.drawn == [("sub-01", ("net",))]


def test_a_metric_that_compares_gives_no_number_where_there_is_no_hr():
    volume = Volume(np.random.default_rng(0).random((16, 16, 16), dtype=np.float32), np.eye(4))
    (result,) = score(volume.data, replace(reference_of(volume), is_hr=False), ["psnr"])
    assert result.value is None
    assert result.reason == "there is no HR to compare with"


def test_methods_without_a_common_protocol_are_refused_with_their_tasks(bench):
    with pytest.raises(UserError, match=r"net: .*elsewhere: thick-4"):
        first_common_protocol([methods.get("net"), methods.get("elsewhere")])


def test_ones_own_images_are_all_taken_and_a_named_dataset_gives_the_protocols_split(bench, tmp_path):
    protocol = get_protocol("kspace-2x2x1")
    (tmp_path / "a.nii").write_bytes(b"")
    assert default_split(FolderDataset(tmp_path), protocol) == "all"
    assert default_split(bench.dataset, protocol) == "test"
    bench.run(split="val")
    assert bench.dataset.asked == ["val"]
