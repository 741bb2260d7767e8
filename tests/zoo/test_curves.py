"""The loss curves follow the log: resumed, truncated, with one stage or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.zoo import curves
from mrsr_bench.zoo.curves import draw_curves, read_log, smoothed, training_seconds


def record(stage: str, step: int, **values: Any) -> dict[str, Any]:
    return {"stage": stage, "step": step, "seconds": float(step), **values}


def written(path: Path, records: list[dict[str, Any]], end: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(r) for r in records) + end)
    return path


def two_stages(tmp_path: Path) -> Path:
    records = [record("l1", step, loss=1 / step) for step in range(10, 310, 10)]
    records += [record("l1", step, val_psnr=28 + step / 100, val_baseline_psnr=28.5) for step in (100, 200, 300)]
    records += [record("gan", step, loss=0.1, g_loss=-0.2, d_loss=-1.0, em_distance=1.0) for step in range(10, 110, 10)]
    records += [record("gan", 50, val_psnr=30.25, val_baseline_psnr=28.5), record("gan", 100, val_psnr=29.0)]
    return written(tmp_path / "log.jsonl", sorted(records, key=lambda r: (r["stage"] == "gan", r["step"])))


def drawn(monkeypatch: pytest.MonkeyPatch, log: Path) -> Any:
    """The figure itself instead of a file."""
    kept = []
    monkeypatch.setattr(curves, "save_png", lambda figure, path: kept.append(figure) or path)
    draw_curves(log, log.with_suffix(".png"))
    return kept[0]


def test_a_truncated_last_line_is_left_out(tmp_path):
    log = written(tmp_path / "log.jsonl", [record("l1", 1, loss=1.0), record("l1", 2, loss=0.5)], end='\n{"stage": "l')
    (stage,) = read_log(log)
    assert stage.curve("loss")[1].tolist() == [1.0, 0.5]


def test_a_broken_line_before_the_last_is_named(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"stage": "l1", "step": 1}\nnot json\n{"stage": "l1", "step": 2}\n')
    with pytest.raises(UserError, match=r"log\.jsonl, line 2"):
        read_log(log)


def test_steps_done_again_after_resuming_count_once(tmp_path):
    first = [record("l1", step, loss=1.0) for step in (10, 20, 30)]
    again = [record("l1", step, loss=2.0) for step in (20, 30, 40)]
    (stage,) = read_log(written(tmp_path / "log.jsonl", first + again))
    steps, loss = stage.curve("loss")
    assert steps.tolist() == [10, 20, 30, 40]
    assert loss.tolist() == [1.0, 2.0, 2.0, 2.0]


def test_going_back_to_an_earlier_stage_drops_the_later_one(tmp_path):
    log = [record("l1", 10, loss=1.0), record("gan", 20, loss=3.0), record("l1", 11, loss=2.0)]
    stages = read_log(written(tmp_path / "log.jsonl", log))
    assert [stage.name for stage in stages] == ["l1"]
    assert stages[0].curve("loss")[1].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("second", [[10, 20], [110, 120]], ids=["steps start anew", "steps run on"])
def test_stages_follow_one_another_on_one_axis(tmp_path, second):
    log = [record("l1", step, loss=1.0) for step in (50, 100)] + [record("gan", step, loss=1.0) for step in second]
    stages = read_log(written(tmp_path / "log.jsonl", log))
    assert stages[1].curve("loss")[0].tolist() == [110, 120]


def test_values_that_are_not_finite_are_not_drawn(tmp_path):
    log = written(tmp_path / "log.jsonl", [record("l1", 1, loss=1.0), record("l1", 2, loss=float("nan"))])
    assert read_log(log)[0].curve("loss")[0].tolist() == [1]


def test_smoothing_keeps_constants_and_lowers_noise():
    print("seed 3")
    noise = np.random.default_rng(3).standard_normal(400)
    np.testing.assert_allclose(smoothed(np.full(7, 2.5)), 2.5)
    assert smoothed(noise).std() < 0.5 * noise.std()
    assert len(smoothed(noise[:1])) == 1


def test_time_adds_up_over_clocks_that_start_anew(tmp_path):
    assert training_seconds(read_log(two_stages(tmp_path))) == pytest.approx(300 + 100)


def test_the_best_step_of_each_stage_the_baseline_and_the_stages_are_named(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, two_stages(tmp_path))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "best 31.00 dB at step 300" in texts
    assert "best 30.25 dB at step 350" in texts
    assert {"l1", "gan"} <= set(texts)
    labels = figure.axes[-1].get_legend_handles_labels()[1]
    assert "interpolation, 28.50 dB" in labels


def test_positive_losses_have_a_logarithmic_axis_and_others_a_linear_one(tmp_path, monkeypatch):
    assert drawn(monkeypatch, two_stages(tmp_path)).axes[0].get_yscale() == "log"
    negative = written(tmp_path / "n.jsonl", [record("gan", step, loss=-1.0 * step) for step in (1, 2)])
    assert drawn(monkeypatch, negative).axes[0].get_yscale() == "linear"


def test_validation_loss_stands_in_where_there_is_no_psnr(tmp_path, monkeypatch):
    log = [record("l1", step, val_loss=value) for step, value in ((1, 0.5), (2, 0.25), (3, 0.4))]
    (axes,) = drawn(monkeypatch, written(tmp_path / "log.jsonl", log)).axes
    assert "best 0.25 at step 2" in [text.get_text() for text in axes.texts]


def test_equal_logs_give_equal_files_and_nothing_else(tmp_path):
    log = two_stages(tmp_path)
    first, second = draw_curves(log, tmp_path / "a.png"), draw_curves(log, tmp_path / "b.png")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG\r\n")
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", "a.png", "b.png"}


def test_one_record_is_enough(tmp_path):
    log = written(tmp_path / "log.jsonl", [record("l1", 1, loss=1.0)])
    assert draw_curves(log, tmp_path / "a.png").exists()


def test_logs_without_content_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_log(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="no training record yet"):
        read_log(written(tmp_path / "empty.jsonl", []))
    with pytest.raises(UserError, match="nothing to draw"):
        draw_curves(written(tmp_path / "lr.jsonl", [record("l1", 1, lr=0.1)]), tmp_path / "a.png")
    with pytest.raises(UserError, match="cannot be written"):
        draw_curves(two_stages(tmp_path), tmp_path / "missing" / "a.png")
