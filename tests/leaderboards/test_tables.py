"""What a table of the site says, and what it leaves unsaid: ranks only where somebody can be told from somebody."""

from __future__ import annotations

from pathlib import Path

import made_up
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
