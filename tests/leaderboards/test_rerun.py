"""A re-run: what it must agree with, and what the process it runs in cannot do."""

import math
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sound_submission import PROTOCOL, scores, sound

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.hidden_phantom import hidden_name
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.leaderboards import rerun as again
from mrsr_bench.leaderboards.rerun import Limits, Outcome, Place, _isolation, compare, drawn, isolated
from mrsr_bench.leaderboards.schema import Score, as_text, read_submissions
from mrsr_bench.leaderboards.verify import Rerun, verify


@pytest.mark.parametrize(
    ("key", "stated", "found", "agrees"),
    [
        ("psnr", 30.0, 30.009, True),
        ("psnr", 30.0, 30.011, False),
        ("niqe", 5.0, 5.04, True),
        ("niqe", 5.0, 5.06, False),
        ("ssim", 0.9, 0.902, False),
        ("psnr", 30.0, math.nan, False),
    ],
)
def test_a_rerun_must_agree(key, stated, found, agrees):
    outcome = Outcome("namespace")
    one = Score(mean=stated, ci95=None, n=1, per_subject={"a": stated})
    place = Place("heads", "heads", "test", ("a",), {key: one})
    compare(place, {key: {"per_subject": {"a": found, "b": 1.0}}}, outcome, ())
    assert outcome.compared == 1
    assert (not outcome.problems) == agrees


@pytest.mark.parametrize(
    ("key", "required", "found", "lines"),
    [
        ("psnr", ("psnr",), {}, (["the re-run has no psnr of a (heads); the submission states 30.0000"], [])),
        ("psnr", ("psnr",), {"a": None}, (["the re-run has no psnr of a (heads); the submission states 30.0000"], [])),
        ("psnr", ("ssim",), {"a": 30.0}, (["the submission states no ssim of a (heads)"], [])),
        ("niqe", (), {}, ([], ["the re-run has no niqe of a (heads), so it was not compared"])),
    ],
)
def test_what_either_side_lacks_is_said(key, required, found, lines):
    outcome = Outcome("namespace")
    one = Score(mean=30.0, ci95=None, n=1, per_subject={"a": 30.0})
    compare(Place("heads", "heads", "test", ("a",), {key: one}), {key: {"per_subject": found}}, outcome, required)
    assert (outcome.problems, outcome.absent) == lines


def test_no_psnr_compared_is_no_agreement_of_psnr():
    outcome = Outcome("namespace")
    one = Score(mean=0.9, ci95=None, n=1, per_subject={"a": 0.9})
    compare(Place("heads", "heads", "test", ("a",), {"ssim": one}), {"ssim": {"per_subject": {"a": 0.9}}}, outcome, ())
    assert (outcome.compared, outcome.largest_psnr_db) == (1, None)


def test_which_subjects_are_run_again_follows_from_the_digest():
    names = [f"sub-{i:02d}" for i in range(1, 21)]
    many = [
        sound(subjects=names, scores=scores({s: 27.0 + 0.1 * i for i, s in enumerate(names)}), date=date)
        for date in ("2026-11-20", "2026-11-21", "2026-11-22")
    ]
    chosen = [drawn(one, [*names, "sub-99"]) for one in many]
    assert [drawn(one, ["sub-99", *names[::-1]]) for one in many] == chosen
    assert [len(set(two) & set(names)) for two in chosen] == [2, 2, 2]
    assert len({*chosen, tuple(names[:2])}) == 4
    assert drawn(many[0], ["sub-07"]) == ("sub-07",)


@pytest.fixture
def rehearsed(tmp_path, monkeypatch):
    """What `verify` says of a submission with these scores of its hidden heads, where the run answers as told."""
    (tmp_path / "results").mkdir()
    name = hidden_name("cubic", None, get_protocol(PROTOCOL).hash)

    def told(stated, answer, **changes):
        heads = {"dataset": name, "scores": stated}
        (tmp_path / "s.json").write_text(as_text([sound(rehearsal=heads, **changes)]))
        monkeypatch.setattr(again, "_run", lambda *_: answer)
        options = {"results": tmp_path / "results", "again": Rerun(), "accept": tmp_path / "kept"}
        found = verify(tmp_path / "s.json", lambda line: None, **options)
        kept = [read_submissions(Path(file))[0] for file in found.get("accepted", ())]
        return found["submissions"][0], kept

    return told


HEADS = scores({"phantom-900": 28.0, "phantom-901": 29.0})


def test_a_rerun_that_deviates_loses_its_badge(rehearsed):
    """The run itself is in the test of the example package; here it answers what it is told."""
    found, (kept,) = rehearsed(HEADS, HEADS)
    assert found["badge"] == "re-run"
    assert kept.verification.datasets == [hidden_name("cubic", None, get_protocol(PROTOCOL).hash)]
    assert kept.verification.largest_psnr_db == 0.0
    found, kept = rehearsed(HEADS, scores({"phantom-900": 28.02, "phantom-901": 29.0}))
    assert (found["state"], found["badge"], kept) == ("refused", "self-reported", [])


def test_scores_on_a_dataset_that_is_not_here_are_a_doubt(rehearsed):
    found, _ = rehearsed(HEADS, HEADS)
    assert "heads is not here, so none of its scores was compared" in found["doubts"]


@pytest.mark.parametrize("lacking", ["psnr", "ssim", "nrmse"])
def test_the_badge_needs_every_metric_of_every_hidden_head(rehearsed, lacking):
    part = {key: found for key, found in HEADS.items() if key != lacking}
    one_head = scores({"phantom-900": 28.0})
    for stated, answer in ((part, HEADS), (HEADS, part), (one_head, HEADS), (HEADS, one_head)):
        found, kept = rehearsed(stated, answer)
        assert (found["state"], found["badge"], kept) == ("refused", "self-reported", [])


CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"


@pytest.mark.parametrize("isolation", ["namespace", "socket guard"])
def test_a_rerun_has_no_network(tmp_path, isolation):
    if isolation == "namespace" and _isolation() != "namespace":
        pytest.skip("this system permits no network namespaces")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        code = CONNECT.format(port=listening.getsockname()[1])
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        # Without site there is no guard either: then only the namespace can be what refuses.
        alone = ["-S"] if isolation == "namespace" else []
        with pytest.raises(UserError, match="exit code 1"):
            isolated([sys.executable, *alone, "-c", code], tmp_path, Limits(60, 4096), isolation)


def test_a_rerun_sees_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code = "import os; print(sorted(os.environ))"
    seen = isolated([sys.executable, "-c", code], tmp_path, Limits(60, 4096), "socket guard")
    assert "HF_HUB_OFFLINE" in seen
    assert "HF_TOKEN" not in seen


@pytest.mark.parametrize(
    ("code", "limits", "sentence"),
    [
        ("import time; time.sleep(60)", Limits(1, 4096), "longer than 1 s"),
        ("bytearray(2**31)", Limits(60, 1024), "MemoryError"),
        ("open('big', 'wb').write(bytes(3 * 2**20))", Limits(60, 4096, 2), "exit code"),
    ],
)
def test_a_rerun_is_limited(tmp_path, code, limits, sentence):
    with pytest.raises(UserError, match=sentence):
        isolated([sys.executable, "-c", code], tmp_path, limits, "socket guard")


def test_heads_that_do_not_follow_from_the_weights_are_refused(tmp_path):
    (tmp_path / "results").mkdir()
    heads = {"dataset": "phantom_hidden-0123456789abcdef", "scores": HEADS}
    (tmp_path / "s.json").write_text(as_text([sound(rehearsal=heads)]))
    found = verify(tmp_path / "s.json", lambda line: None, results=tmp_path / "results", again=Rerun())
    assert "hidden heads are not" in found["submissions"][0]["problems"][0]
