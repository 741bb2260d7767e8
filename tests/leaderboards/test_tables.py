"""What a table of the site says, and what it leaves unsaid: ranks only where somebody can be told from somebody."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest
from page import Page

from mrsr_bench.leaderboards import board, site
from mrsr_bench.leaderboards.schema import Submission


def entry_of(found: board.Board, method: str) -> board.Entry:
    return next(entry for _, entry in found.entries if entry.submission.method == method)


def pages(out: Path, *submissions: Submission) -> board.Board:
    """The pages of a board, written below ``out``."""
    found = board.make_board(submissions)
    site._write_pages(out, found, [], None)
    return found


def task_of(out: Path, name: str = "*") -> Page:
    return Page(next(out.glob(f"tasks/{name}.html")))


def test_nobody_is_first_where_no_difference_could_be_significant(tmp_path):
    seven = [made_up.submission(f"net{i}", gain=i, subjects=9, seed=i) for i in range(7)]
    found = pages(tmp_path, *seven)
    assert {rank for _, entry in found.entries for rank in entry.ranks.values()} == {None}
    assert found.tables[0].entries[0].submission.method == "net6"
    page = task_of(tmp_path)
    assert page.text.count("no difference can be significant") == 1
    assert "Not ranked: with 9 subjects and 21 comparisons" in page.text
    assert "tie" not in page.text
    assert {a.get("class") for t, a in page.tags if t == "tr"} <= {None, "nogroup"}
    assert not [a for t, a in page.tags if t == "circle" and "first" in a["class"].split()]
    assert "not ranked" in Page(tmp_path / "index.html").text


def test_who_is_alone_is_not_first(tmp_path):
    found = pages(tmp_path, made_up.submission("net"), made_up.submission("net", date="2026-01-01", gain=1.0))
    assert [entry.ranks["psnr"] for entry in found.tables[0].entries] == [None, None]
    assert "Not ranked: alone in its table" in task_of(tmp_path).text
    beside = board.make_board([made_up.submission("net"), made_up.submission("part", subjects=3, first=2)])
    assert entry_of(beside, "net").unranked == "no other method has psnr of all 12 subjects"


def test_metrics_of_the_protocol_that_nobody_has_are_named_with_the_reason(tmp_path):
    one = made_up.content("net")
    reason = (
        "the parameters m.mat are not here and MRSR_BENCH_OFFLINE=1 forbids downloads; put https://a.b/m.mat into x"
    )
    for name, why in (("niqe", reason), ("pi", f"needs ma: {reason}")):
        one["scores"][name] = {"mean": None, "ci95": None, "n": 0, "reason": why}
    found = pages(tmp_path, made_up.submission("net", scores=one["scores"]))
    expected = {"niqe": "the parameters m.mat are not here", "pi": "needs ma"}
    assert {**dict(found.tables[0].without), **expected} == dict(found.tables[0].without)
    assert "psnr" not in dict(found.tables[0].without)
    text = task_of(tmp_path).text
    assert "niqe (the parameters m.mat are not here)" in text
    assert "MRSR_BENCH_OFFLINE" not in text


def test_a_table_of_few_subjects_shows_them_one_by_one(tmp_path):
    one = made_up.submission("net", subjects=3)
    pages(tmp_path, one)
    page = task_of(tmp_path)
    assert "subjects" in page.all("id")
    assert not [t for t, a in page.tags if t == "summary" and a.get("id") == "subjects"]
    for name, digits in (("psnr", 2), ("ssim", 4), ("nrmse", 4)):
        for value in one.scores[name].per_subject.values():
            assert f"{value:.{digits}f}" in page.text


def test_a_table_of_many_subjects_folds_them_away_and_a_huge_one_leaves_them_to_the_data(tmp_path, monkeypatch):
    pages(tmp_path / "a", made_up.submission("net", subjects=12))
    assert [t for t, a in task_of(tmp_path / "a").tags if a.get("id") == "subjects"] == ["summary"]
    monkeypatch.setattr(site, "MOST_CELLS", 3 * 12 - 1)
    pages(tmp_path / "b", made_up.submission("net", subjects=12))
    assert "subjects" not in task_of(tmp_path / "b").all("id")
    assert "#subjects" not in "".join(Page(next((tmp_path / "b").glob("methods/*.html"))).all("href"))


def test_the_command_names_a_folder_for_a_dataset_that_is_not_registered_and_says_what_it_is(tmp_path):
    found = pages(tmp_path, made_up.submission("net"), made_up.submission("net", dataset="mine"))
    places = {t.dataset: site.run_line(t, t.entries[0]).split()[5] for t in found.tables}
    assert places == {"brain_t1": "PATH/brain_t1", "mine": "PATH/mine"}
    assert "OpenfMRI ds000011" in task_of(tmp_path, "*brain_t1*").text
    assert "mine:" not in task_of(tmp_path, "*mine*").text
    registered = board.make_board([made_up.submission("net", dataset="phantom_2mm", synthetic=True)]).tables[0]
    assert site.run_line(registered, registered.entries[0]).split()[5] == "phantom_2mm"


@pytest.mark.parametrize(
    ("commit", "shown"), [("a" * 40 + "+", "a" * 12 + " with local changes"), ("b" * 40, "b" * 12)]
)
def test_a_changed_checkout_is_shown_as_such(tmp_path, commit, shown):
    source = {"package": "net", "package_version": "1.0", "commit": commit}
    pages(tmp_path, made_up.submission("net", source=source))
    text = Page(next(tmp_path.glob("methods/*.html"))).text
    assert text.count(shown) == 2
    assert ("local changes" in text) == commit.endswith("+")


def test_a_mean_over_other_subjects_says_so_on_every_page_and_sorts_last(tmp_path):
    pages(tmp_path, made_up.submission("net", subjects=9), made_up.submission("part", subjects=2))
    for page in (task_of(tmp_path), Page(tmp_path / "results.html")):
        assert "n = 2 of 9" in page.text
        assert "no psnr for 7 of 9 subjects" in page.text
        assert "n = 9" not in page.text
    values = Page(tmp_path / "results.html").all("data-v")
    part = made_up.submission("part", subjects=2).scores["psnr"].mean
    assert str(part) not in values


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0334, "0.033 s"), (35.1, "35 s"), (99.6, "1.7 min"), (1059.3, "18 min"), (7200, "2 h"), (5e5, "5.79 days")],
)
def test_a_time_stands_in_the_unit_that_reads_best(seconds, text):
    assert site.duration(seconds) == text
