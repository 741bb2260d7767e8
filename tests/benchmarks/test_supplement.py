"""Metrics beside the protocol's: stored with a run, no reason to lose it, and added when they are asked for."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks import supplement
from mrsr_bench.benchmarks.metrics import metrics
from mrsr_bench.benchmarks.metrics.frequency import shell_correlations
from mrsr_bench.benchmarks.results import CURVES_FILE, read_run, read_scores

FURTHER = {"in_band_error", "out_of_band_error", "resolution", "resolution_r", "hfen", "gmsd"}


def rows_of(report, key):
    found = [row for row in read_scores(report.folders[0] / "scores.parquet") if row.metric == key]
    return {row.subject: row.value for row in found if row.slice is None}


def test_the_usual_ones_are_computed_with_sr_and_stored_with_version(bench):
    report = bench.run()
    run = read_run(report.folders[0])
    for key in FURTHER:
        assert run["scores"][key]["n"] == 3, run["scores"][key]
        assert run["pieces"]["sub-01"]["supplement"][key] == {"version": metrics.get(key).version}
    assert "tissue_dice" not in run["scores"], "the fakes have no labels, and nobody asked"
    assert not FURTHER & set(run["ingredients"]["metrics"])
    assert not FURTHER & report.shown


def test_stored_curves_are_those_of_sr_and_hr(bench, tiny_head):
    from mrsr_bench.zoo.regrid import regrid

    report = bench.run(subjects=1)
    stored = json.loads((report.folders[0] / CURVES_FILE).read_text(encoding="utf-8"))["sub-01"]["T1w"]
    assert set(stored) == {"resolution", "resolution_r", "resolution_a", "resolution_s"}
    hr = tiny_head(1)
    lr = bench.seen[0][1]
    expected = shell_correlations(regrid(lr, hr.grid, "linear").data, hr.data, hr.grid)["a"]
    assert stored["resolution_a"]["nyquist"] == pytest.approx(0.5 / 1.1)
    np.testing.assert_allclose(stored["resolution_a"]["correlation"], expected.correlation, rtol=1e-4)
    np.testing.assert_allclose(stored["resolution_a"]["frequency"], expected.frequency, rtol=1e-4)


def test_a_run_without_them_is_found_again_and_completed_only_when_they_are_asked_for(bench):
    first = bench.run(metrics=["none"], figures=False)
    bench.seen.clear()
    again = bench.run(figures=False)
    assert not bench.seen, "the usual metrics are no reason to make SR again"
    assert again.folders == first.folders
    assert "hfen" not in read_run(again.folders[0])["scores"]
    asked = bench.run(metrics=["hfen,resolution_s"], figures=False)
    assert len(bench.seen) == 3
    assert asked.folders == first.folders
    assert {"hfen", "resolution_s"} <= asked.shown
    assert "gmsd" not in read_run(asked.folders[0])["scores"]
    whole = bench.run(out=bench.out / "another", figures=False)
    assert rows_of(asked, "hfen") == rows_of(whole, "hfen")
    assert rows_of(asked, "psnr") == rows_of(whole, "psnr")
    bench.seen.clear()
    bench.run(metrics=["hfen"], figures=False)
    assert not bench.seen


def test_a_subject_that_was_scored_before_without_a_metric_is_named(bench):
    bench.run(subjects=1, metrics=["none"])
    score = bench.run().result["runs"][0]["scores"]["hfen"]
    assert score["n"] == 2
    assert score["per_subject"]["sub-01"] is None
    assert "`run --metrics hfen` adds it" in score["reason"]


def test_values_of_another_version_are_dropped_and_the_rest_is_kept(bench, monkeypatch):
    first = bench.run(figures=False)
    newer = {**metrics._load(), "hfen": replace(metrics.get("hfen"), version=99)}
    monkeypatch.setattr(metrics, "_components", newer)
    bench.seen.clear()
    again = bench.run(figures=False)
    assert not bench.seen
    assert "hfen" not in read_run(again.folders[0])["scores"]
    assert rows_of(again, "gmsd") == rows_of(first, "gmsd")
    asked = bench.run(metrics=["hfen"], figures=False)
    assert len(bench.seen) == 3
    assert rows_of(asked, "hfen") == rows_of(first, "hfen")


def test_asked_for_without_what_it_needs_a_metric_is_null_with_the_reason(bench):
    score = bench.run(metrics=["tissue_dice"]).result["runs"][0]["scores"]["tissue_dice"]
    assert score["n"] == 0
    assert score["reason"]


def test_names_are_checked_before_anything_is_computed(bench):
    with pytest.raises(UserError, match="did you mean hfen"):
        bench.run(metrics=["hfem"])
    with pytest.raises(UserError, match="stand alone"):
        bench.run(metrics=["all", "hfen"])
    assert not bench.acquired


def test_all_is_every_metric_that_the_protocol_allows():
    from mrsr_bench.benchmarks.protocol import get_protocol

    found = supplement.supplement_of(["all"], get_protocol("kspace-2x2x1"), ["psnr"])
    assert set(found.specs) == set(metrics.names()) - {"psnr"}
    real = supplement.supplement_of(["all"], get_protocol("real"), [])
    assert set(real.specs) == {name for name in metrics.names() if not metrics.get(name).reference}
    assert not supplement.supplement_of(None, get_protocol("real"), []).specs
    with pytest.raises(UserError, match="has no reference, so hfen"):
        supplement.supplement_of(["hfen"], get_protocol("real"), [])
