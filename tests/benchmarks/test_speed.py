"""The speed suite runs at tiny sizes and reports what it promises; no test here looks at a clock."""

import argparse
import json
import math
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from mrsr_bench.benchmarks import contenders, speed
from mrsr_bench.benchmarks.contenders import (
    QUICK,
    CannotRunError,
    Settings,
    prepare_metrics,
    prepare_monai,
    prepare_tiled,
    synthetic_head,
)
from mrsr_bench.zoo.methods import methods

GROUPS_OF_METRICS = ["metrics, psnr + ssim + nrmse in the region", "metrics, psnr + ssim of every slice"]
needs_monai = pytest.mark.skipif(find_spec("monai") is None, reason="the extra `speed` is not installed")


def row(group: str, name: str, seconds: float | None, output=None, **more) -> speed.Row:
    return speed.Row(group, name, "metrics", seconds=seconds, cpu_seconds=seconds, output=output, **more)


@pytest.fixture(scope="module")
def report():
    command = [sys.executable, "-m", "mrsr_bench.benchmarks.speed", "--quick", "--json", "--threads", "1"]
    command += ["--only", "metrics", "--only", "training"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_json_is_one_object_with_machine_versions_and_settings(report):
    assert report["machine"]["threads"] == 1
    assert report["machine"]["cpu"]
    assert report["versions"]["scikit-image"]
    assert "monai" in report["versions"]
    assert report["settings"]["metric_shape"] == list(QUICK.metric_shape)


def test_every_row_has_seconds_repetitions_and_memory(report):
    groups = [r["group"] for r in report["rows"]]
    assert groups == [*(g for g in GROUPS_OF_METRICS for _ in range(2)), "training, one step, bfloat16 autocast"]
    for measured in report["rows"]:
        assert measured["reason"] is None
        assert measured["seconds"] > 0
        assert len(measured["all_seconds"]) == 2
        assert min(measured["all_seconds"]) <= measured["seconds"] <= max(measured["all_seconds"])
        assert measured["peak_memory_mb"] is None or measured["peak_memory_mb"] >= 0


def test_metrics_agree_with_scikit_image(report):
    assert [r["group"] for r in report["ratios"]] == GROUPS_OF_METRICS
    for ratio in report["ratios"]:
        assert ratio["agrees"] is True
        assert ratio["largest_difference"] <= ratio["tolerance"] == 1e-5
        assert ratio["goal"] == 5
        assert ratio["ratio"] > 0


def test_training_reports_patches_and_voxels_of_the_recipe(report):
    training = report["rows"][-1]
    assert training["voxels_per_second"] / training["patches_per_second"] == pytest.approx(math.prod(QUICK.patch))
    assert training["patches_per_second"] * training["seconds"] == pytest.approx(4)


def test_metrics_are_those_of_the_volume_in_the_design():
    assert Settings().metric_shape == (256, 256, 170)


@needs_monai
@pytest.mark.parametrize(("windows", "lean"), [("tile", True), ("cube", True), ("cube", False)])
def test_monai_with_margins_gives_what_tiles_give_away_from_the_faces(windows, lean):
    _, ours = prepare_tiled(QUICK, autocast=False)
    _, theirs = prepare_monai(QUICK, lean=lean, autocast=False, windows=windows)
    (out, facts), (other, other_facts) = ours(), theirs()
    first, second = row("", "", 1.0, out), row("", "", 1.0, other, facts=other_facts)
    assert speed.difference(first, second, QUICK) < speed.INFERENCE_TOLERANCE
    assert 1 < facts["computed"] <= other_facts["computed"]
    assert out.std() > 1e-3


@needs_monai
def test_monai_without_margins_has_seams(monkeypatch):
    monkeypatch.setattr(contenders, "USUAL_WINDOW", 16)
    _, ours = prepare_tiled(QUICK, autocast=False)
    _, theirs = prepare_monai(QUICK, lean=True, autocast=False, windows="usual")
    out, (other, facts) = ours()[0], theirs()
    first, second = row("", "", 1.0, out), row("", "", 1.0, other, facts=facts)
    assert speed.difference(first, second, QUICK) > speed.INFERENCE_TOLERANCE


def test_without_monai_its_rows_say_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.inferers", None)
    with pytest.raises(CannotRunError, match=r"MONAI is not installed; pip install 'mrsr-bench\[speed\]'"):
        prepare_monai(QUICK, lean=True, autocast=False, windows="usual")


def test_a_row_that_cannot_run_has_a_reason_and_no_ratio(capsys):
    rows = [row("g", "ours", 1.0, {"psnr": 30.0}), row("g", "theirs", None, reason="MONAI is not installed [x]")]
    found = speed.ratios(rows, QUICK)
    assert found == [
        {"group": "g", "against": "theirs", "ratio": None, "reason": "MONAI is not installed [x]", "goal": None}
    ]
    records = [
        {"group": "g", "name": r.name, "seconds": r.seconds, "all_seconds": [1.0], "reason": r.reason} for r in rows
    ]
    machine = {"cpu": "a processor", "cores": 1, "threads": 1, "memory_mb": 1}
    speed.print_report({"machine": machine, "versions": {}, "settings": vars(QUICK), "rows": records, "ratios": found})
    printed = capsys.readouterr().out
    assert "theirs: MONAI is not installed [x]" in printed
    assert "a processor" in printed


def test_ratios_are_theirs_over_ours_and_tell_disagreement():
    ours = row("g", "ours", 2.0, {"psnr": 30.0, "ssim": 0.9}, peak_memory_mb=10.0)
    close = row("g", "close", 8.0, {"psnr": 30.000001, "ssim": 0.9}, peak_memory_mb=15.0, tolerance=1e-5, goal=5.0)
    far = row("g", "far", 1.0, {"psnr": 30.0, "ssim": 0.91}, tolerance=1e-5)
    first, second = speed.ratios([ours, close, far], QUICK)
    assert (first["ratio"], first["memory_ratio"], first["agrees"]) == (4.0, 1.5, True)
    assert (second["ratio"], second["memory_ratio"], second["agrees"]) == (0.5, None, False)


def test_disagreement_ends_with_exit_code_one(monkeypatch, capsys):
    def suite(settings, parts):
        return {"settings": {}, "ratios": [{"agrees": False}], "parts": list(parts)}

    monkeypatch.setattr(speed, "run_suite", suite)
    assert speed.main(["--json", "--only", "metrics"]) == 1
    assert json.loads(capsys.readouterr().out)["parts"] == ["metrics"]


@pytest.mark.parametrize("arguments", [["--size", "12x12"], ["--size", "0x4x4"], ["--threads", "none"]])
def test_impossible_options_end_with_exit_code_two(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        speed.main(arguments)
    assert stop.value.code == 2
    assert "expected a" in capsys.readouterr().err


def test_a_full_volume_is_cut_as_the_method_says():
    options = argparse.Namespace(quick=False, full=True, size=None, window=None, threads=3, repetitions=7)
    settings = speed.settings_from(options)
    assert settings.inference_shape == (256, 256, 170)
    assert settings.tiling() == methods.get("mdcsrn_b4u4").tiling
    assert (settings.threads, settings.metric_repetitions, settings.training_steps) == (3, 7, 7)


def test_both_sides_get_the_same_arrays():
    for first, second in zip(synthetic_head((12, 10, 8)), synthetic_head((12, 10, 8)), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_contender_gives_the_same_values_every_time():
    _, work = prepare_metrics(QUICK, ours=True, slicewise=False)
    assert work() == work()
