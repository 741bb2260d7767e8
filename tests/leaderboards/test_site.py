"""The site holds every submission, shows hostile text as text, and is there whole or not at all."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import threading
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import made_up
import numpy as np
import pytest
from page import Page

from mrsr_bench import UserError
from mrsr_bench.leaderboards import board, exports, plots, site, slices

FEW = made_up.few()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.build(folder / "site", results=made_up.store(folder / "results", FEW), pictures=())
    return folder / "site"


def task_page(built: Path, dataset: str) -> Page:
    return Page(next(built.glob(f"tasks/kspace-2x2x1--{dataset}--*.html")))


def entry_of(found: board.Board, method: str) -> board.Entry:
    return next(entry for _, entry in found.entries if entry.submission.method == method)


def test_no_submission_is_lost_on_any_page_or_in_any_file(built):
    digests = {one.digest for one in FEW}
    rows = list(csv.DictReader((built / "data/results.csv").open(encoding="utf-8", newline="")))
    assert {row["digest"] for row in rows} == digests
    stored = json.loads((built / "data/results.json").read_text(encoding="utf-8"))
    assert {e["submission"]["digest"] for table in stored["tables"] for e in table["entries"]} == digests
    linked = {href.rpartition("#")[2] for href in Page(built / "results.html").all("href")}
    assert {digest[:8] for digest in digests} <= linked
    assert {digest[:8] for digest in digests} <= {i for p in built.glob("methods/*.html") for i in Page(p).all("id")}


def test_an_incomplete_entry_is_listed_unranked_and_does_not_unrank_the_others():
    found = board.make_board(FEW)
    assert entry_of(found, "partial").ranks["psnr"] is None
    assert entry_of(found, "partial").unranked == "no psnr for 7 of 12 subjects"
    assert [entry_of(found, name).ranks["psnr"] for name in ("good", "same", "cubic")] == [1, 1, 3]
    last = found.standings["scans"][-1]
    assert last.score == 1.0
    assert "partial" in {found.methods[s.method].name for s in found.standings["scans"] if s.score == 1.0}


def test_below_eight_subjects_there_is_no_interval_and_no_rank():
    entry = entry_of(board.make_board(FEW), "small")
    assert entry.intervals == {}
    assert entry.ranks["psnr"] is None
    assert "n = 3" in entry.unranked
    assert entry_of(board.make_board(FEW), "good").intervals["psnr"][0] > 0


def test_a_later_submission_of_the_same_method_replaces_the_earlier_which_stays_listed():
    old, new = made_up.submission("net", date="2026-01-01"), made_up.submission("net", gain=0.5, date="2026-02-02")
    stranger = made_up.submission("net", gain=0.7, contact="other@example.org")
    found = board.make_board([new, old, stranger])
    entries = {entry.id: entry for _, entry in found.entries}
    assert len(entries) == 3
    assert entries[old.digest].superseded
    assert entries[old.digest].ranks["psnr"] is None
    assert not entries[new.digest].superseded
    assert len(found.methods) == 2
    assert len({method.label for method in found.methods.values()}) == 2


def test_another_protocol_hash_is_another_table():
    changed = made_up.submission("net", protocol_hash="0" * 64)
    tables = board.make_board([made_up.submission("net"), changed]).tables
    assert len(tables) == 2
    assert {table.factor for table in tables} == {None, (2.0, 2.0, 1.0)}


def test_scans_and_procedural_heads_are_never_mixed(built):
    found = board.make_board(FEW)
    names = {kind: {found.methods[s.method].name for s in all_} for kind, all_ in found.standings.items()}
    assert "phantomnet" not in names["scans"]
    assert not names["phantom"] & names["scans"]
    assert all(len(s.shares) + len(s.missing) == 1 for s in found.standings["scans"])
    assert "machinery" in task_page(built, "phantom_2mm").text


def test_every_link_of_every_page_leads_somewhere(built):
    for path in built.rglob("*.html"):
        for address in [*Page(path).all("href"), *Page(path).all("src"), *Page(path).all("data-href")]:
            parts = urlsplit(address)
            if parts.scheme:
                assert parts.scheme == "https", (path.name, address)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path.name, address)
            if parts.fragment and target.suffix == ".html":
                assert parts.fragment in Page(target).all("id"), (path.name, address)


def test_every_page_has_what_a_screen_reader_needs(built):
    for path in built.rglob("*.html"):
        page = Page(path)
        tags = [tag for tag, _ in page.tags]
        assert tags.count("h1") == 1, path.name
        assert {"main", "nav", "header", "footer", "title"} <= set(tags), path.name
        levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
        assert all(b - a <= 1 for a, b in itertools.pairwise(levels)), path.name
        assert len(page.all("id")) == len(set(page.all("id"))), path.name
        assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img"), path.name
        assert all("scope" in attributes for tag, attributes in page.tags if tag == "th"), path.name
        named = {"role": "img", "aria-labelledby": ""}
        svgs = [a for t, a in page.tags if t == "svg"]
        assert all(named.keys() <= a.keys() or a.get("aria-hidden") == "true" for a in svgs), path.name


def test_text_has_enough_contrast_in_both_themes():
    style = (site.FOLDER / "assets/style.css").read_text(encoding="utf-8")
    pairs = {name: (a, b) for name, a, b in re.findall(r"--(\S+): light-dark\((#\w{6}), (#\w{6})\)", style)}
    assert len(pairs) >= 12

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    backs = ["back", "raised", "warn-back", "good-back", "bad-back", "good-strong", "bad-strong"]
    wanted = [("text", b) for b in backs] + [(t, b) for t in ("soft", "accent") for b in ("back", "raised")]
    for front, back in wanted:
        for theme in (0, 1):
            high, low = sorted((luminance(pairs[front][theme]), luminance(pairs[back][theme])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (front, back, theme)


def test_pages_load_nothing_from_anywhere_else_and_run_nothing_inline(built):
    for path in built.rglob("*.html"):
        page = Page(path)
        policy = next(a["content"] for t, a in page.tags if t == "meta" and "Content-Security-Policy" in a.values())
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        for tag, attributes in page.tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (path.name, tag)
            assert tag != "style", path.name
            if tag in ("script", "img", "link"):
                assert not urlsplit(attributes.get("src") or attributes.get("href") or "").scheme, path.name


def test_hostile_text_stays_text_on_every_page_even_if_no_schema_had_refused_it(tmp_path):
    one = made_up.submission("net")
    nasty = '"><img src=x onerror=alert(1)>' + made_up.HOSTILE
    training = one.training.model_copy(update={"dataset": nasty, "terms": nasty})
    source = one.source.model_copy(update={"repository": "javascript:alert(1)", "package": nasty})
    evil = made_up.bypassing(
        one,
        method=nasty,
        description=nasty,
        paper=nasty,
        licence=nasty,
        contact="javascript:alert(1)",
        dataset=nasty,
        split="../../up",
        protocol="../" + nasty,
        training=training,
        source=source,
    )
    out = tmp_path / "site"
    out.mkdir()
    found = board.make_board([evil, *FEW])
    site._write_pages(out, found, [], None)
    site._write_data(out / "data", found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["site"]
    pages = sorted(out.rglob("*.html"))
    assert any("alert(1)" in Page(path).text for path in pages)
    for path in pages:
        tags = Page(path).tags
        assert not [a for t, a in tags if t == "img"], path
        assert all((a.get("src") or "").endswith(".js") for t, a in tags if t == "script"), path
        assert not [a for _, a in tags if "onerror" in a or (a.get("href") or "").startswith("javascript")], path


def test_direction_and_control_characters_are_made_visible(tmp_path):
    evil = made_up.bypassing(made_up.submission("net"), description="gpj\u202e.exe\u0007")
    site._write_pages(tmp_path, board.make_board([evil]), [], None)
    text = next(tmp_path.glob("methods/*.html")).read_text(encoding="utf-8")
    assert "\u202e" not in text
    assert "gpj\ufffd.exe\ufffd" in text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "|calc", "%x"])
def test_no_cell_of_a_csv_begins_like_a_formula(text):
    row = next(csv.reader([exports.as_csv(["a"], [[text]]).split("\r\n", 1)[1]]))
    assert row[0].lstrip()[:1] not in ("=", "+", "-", "@", "|", "%")


def test_numbers_in_a_csv_stay_numbers():
    assert exports.as_csv(["a", "b", "c"], [[-1.5, 3, None]]) == "a,b,c\r\n-1.5,3,\r\n"


def test_the_command_of_a_method_is_one_line_that_a_shell_reads_as_words():
    one = made_up.bypassing(made_up.submission("net"), method="x; rm -rf ~ #", dataset="$(reboot)")
    found = board.make_board([one])
    line = site.run_line(found.tables[0], found.tables[0].entries[0])
    words = shlex.split(line)
    assert words[:4] == ["mrsr-bench", "run", "--model", "x; rm -rf ~ #"]
    assert words[5] == "PATH/$(reboot)"
    assert words[words.index("--split") + 1] == "test"
    assert words[-1] == f"hf:someone/net@{'a' * 40}"


def test_the_page_of_a_method_says_whom_to_ask_and_how_long_it_learnt(tmp_path):
    ours = made_up.submission("cubic", network=False, contact="maintainers")
    theirs = made_up.submission("net", training={**made_up.content()["training"], "hours": 0.25})
    site.build(tmp_path / "site", results=made_up.store(tmp_path / "results", [ours, theirs]), pictures=())
    (one,), (other,) = (list((tmp_path / "site/methods").glob(f"{name}-*.html")) for name in ("cubic", "net"))
    assert "the maintainers; ask by opening an issue" in Page(one).text
    assert "someone@example.org" in Page(other).text
    assert "15 min" in Page(other).text


def test_the_pictures_of_an_alias_are_those_of_the_method_it_stands_for():
    picture = slices.Picture("mynet", "mynet (mynet_b4)", "mynet_b4", ("a.png",))
    stack = slices.Stack(
        "kspace-2x2x1", "", "axial", (0.0,), 1, 1, (slices.Picture("HR", "HR", "", ("h.png",)), picture)
    )
    one = made_up.submission("mynet_b4", source={"package": "mrsr-bench", "package_version": "1"})
    shipped = made_up.bypassing(one, weights=one.weights.model_copy(update={"shipped": True}))
    assert site._pictures_of("mynet_b4", shipped, [stack]) == [(stack, stack.pictures[0], picture)]
    assert site._pictures_of("mynet", shipped, [stack]) == []
    assert site._pictures_of("mynet_b4", one, [stack]) == []


def test_there_is_no_command_for_weights_that_nobody_can_have():
    one = made_up.submission("net", weights={"sha256": "0" * 64})
    found = board.make_board([one])
    assert site.run_line(found.tables[0], found.tables[0].entries[0]) is None


def test_a_method_keeps_its_address_whoever_else_submits():
    alone = board.make_board([FEW[1]])
    assert set(alone.methods) <= set(board.make_board(FEW).methods)
    assert board.slug_of("A", "x") != board.slug_of("A", "y")
    assert re.fullmatch(r"[\w-]+", board.slug_of("../a b/<", "x"))


def test_plots_stay_within_their_frame_and_say_what_they_leave_out():
    found = board.make_board(FEW)
    table = next(t for t in found.tables if t.dataset == "brain_t1" and t.protocol == "kspace-2x2x1")
    sizes = plots.quality_cost(table, "parameters")
    assert sizes.omitted == "Not drawn, of 4 entries: 1 without such a value, 1 without all subjects"  # cubic, partial
    drawn = [plots.perception_distortion(table), sizes, plots.quality_cost(table, "seconds")]
    for plot in drawn:
        assert all(plot.left <= m.x <= plot.right and plot.top <= m.y <= plot.bottom for m in plot.marks)
    assert "partial" not in {mark.label for plot in drawn for mark in plot.marks}
    assert table.entries[-1].submission.method == "partial", "the best mean of all, but of five easy subjects"
    (lines,) = plots.over_factors(found.tables)
    assert [line.label for line in lines.lines] == ["steady"]
    assert [tick.text for tick in lines.x_ticks] == ["2", "4", "6"]
    assert [y for _, y, _ in lines.lines[0].points] == sorted(y for _, y, _ in lines.lines[0].points)


def test_a_curve_over_factors_is_of_the_same_subjects_at_each():
    """Three heads at one factor and one head at the others: the curve is of that one head."""
    many = made_up.submission("net", protocol="thick-4", dataset="brain_t1", subjects=3)
    few = [made_up.submission("net", protocol=f"thick-{f}", dataset="brain_t1", subjects=1) for f in (2, 6)]
    found = board.make_board([many, *few])
    (plot,) = plots.over_factors(found.tables)
    head = few[0].subjects[0]
    shown = [float(re.search(r"psnr ([\d.]+)", text)[1]) for *_, text in plot.lines[0].points]
    wanted = [one.scores["psnr"].per_subject[head] for one in (few[0], many, few[1])]
    assert shown == pytest.approx(wanted, abs=5e-3)
    assert plot.omitted == "Means over the one subject that all these factors have"


def test_a_table_that_shares_no_subject_is_not_in_the_curve():
    two = [made_up.submission("net", protocol=f"thick-{f}", dataset="brain_t1", subjects=3) for f in (2, 4)]
    other = made_up.submission("net", protocol="thick-6", dataset="brain_t1", subjects=3, first=50)
    (plot,) = plots.over_factors(board.make_board([*two, other]).tables)
    assert [tick.text for tick in plot.x_ticks] == ["2", "4"]


def test_a_name_in_a_plot_lies_over_no_mark():
    apart = plots._free_side((200, 100), 60, [], [(200, 100)], 13)
    assert apart == "right"
    assert plots._free_side((200, 100), 60, [], [(200, 100), (240, 104)], 13) == "left"
    assert plots._free_side((200, 100), 60, [(130, 180, 100)], [(200, 100), (240, 104)], 13) is None
    assert plots._free_side((plots.WIDTH - 30, 100), 60, [], [], 13) == "left"


def test_an_empty_board_still_makes_a_site(tmp_path):
    (tmp_path / "none").mkdir()
    found = site.build(tmp_path / "site", results=tmp_path / "none", pictures=())
    assert found["submissions"] == 0
    assert "No submission" in Page(tmp_path / "site/index.html").text


def test_a_site_is_replaced_and_nothing_else_ever_is(tmp_path):
    results = made_up.store(tmp_path / "results", FEW[:1])
    out = tmp_path / "site"
    for _ in range(2):
        site.build(out, results=results, pictures=())
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("years", encoding="utf-8")
    with pytest.raises(UserError, match="no site"):
        site.build(other, results=results, pictures=())
    assert (other / "thesis.txt").read_text(encoding="utf-8") == "years"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "results", "site"]


def test_a_bad_submission_stops_the_build_and_leaves_the_old_site(tmp_path, built):
    results = made_up.store(tmp_path / "results", FEW[:1])
    site.build(tmp_path / "site", results=results, pictures=())
    before = (tmp_path / "site/index.html").read_bytes()
    (results / "bad.json").write_text('{"format": 1', encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.json"):
        site.build(tmp_path / "site", results=results, pictures=())
    assert (tmp_path / "site/index.html").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results", "site"]


def test_the_same_submission_twice_is_refused(tmp_path):
    results = made_up.store(tmp_path / "results", FEW[:1])
    (results / "copy.json").write_bytes(next(results.glob("k*.json")).read_bytes())
    with pytest.raises(UserError, match="already"):
        board.read_results(results)


MATRIX = {
    "dataset": "phantom",
    "split": "test",
    "subjects": ["a"],
    "baseline": "cubic",
    "convention": "in dB",
    "crop": 96,
    "rows": [
        {
            "model": "net",
            "resolved": "net",
            "task": "kspace-2x2x1",
            "trained_for": "kspace",
            "factor": [2, 2, 1],
            "cells": {
                "kspace": {"psnr": 30.0, "gain": 1.25, "loss": 0.0},
                "thick": {"psnr": 20.0, "gain": -1.5, "loss": 2.75},
                "thin": {"psnr": None, "reason": made_up.HOSTILE},
            },
        }
    ],
}


def test_the_matrix_is_shown_with_what_is_missing(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps(MATRIX), encoding="utf-8")
    site._write_pages(tmp_path, board.make_board([]), [], site.read_matrix(tmp_path / "m.json"))
    page = Page(tmp_path / "matrix.html")
    assert "+1.25" in page.text
    assert "loss 2.75" in page.text
    assert made_up.HOSTILE in page.all("title")


def test_the_matrix_of_the_package_is_shown_unless_another_is_given(tmp_path, monkeypatch):
    results = made_up.store(tmp_path / "results", FEW[:1])
    monkeypatch.setattr(site, "MATRIX", tmp_path / "absent.json")
    site.build(tmp_path / "site", results=results, pictures=())
    assert "built without a matrix" in Page(tmp_path / "site/matrix.html").text
    (tmp_path / "ours.json").write_text(json.dumps(MATRIX), encoding="utf-8")
    monkeypatch.setattr(site, "MATRIX", tmp_path / "ours.json")
    site.build(tmp_path / "site", results=results, pictures=())
    assert "+1.25" in Page(tmp_path / "site/matrix.html").text


def test_the_matrix_in_the_package_can_be_read_and_names_no_place_on_a_machine():
    assert site.read_matrix(site.MATRIX)["rows"]
    assert "/" not in site.read_matrix(site.MATRIX)["dataset"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"dataset": 1}', json.dumps({**MATRIX, "rows": [{"model": "net"}]}), "[" * 100_000]
)
def test_what_is_no_matrix_is_refused(tmp_path, text):
    (tmp_path / "m.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="matrix"):
        site.read_matrix(tmp_path / "m.json")


def test_pictures_show_the_difference_to_hr(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(slices, "SLICES", 2)
    (stack,) = slices.render_stacks(tmp_path, ("nearest", "mdcsrn_b8u4"), ("kspace-2x2x1",))
    assert [picture.key for picture in stack.pictures] == ["HR", "LR", "nearest"]
    assert "weights" in stack.missing["mdcsrn_b8u4"]
    hr, _, nearest = stack.pictures
    assert hr.differences == ()
    a, b = (np.asarray(Image.open(tmp_path / p.files[0]), dtype=float) for p in (hr, nearest))
    assert a.shape == (stack.height, stack.width)
    assert 100 * np.sqrt(((a - b) ** 2).mean()) / 255 == pytest.approx(nearest.errors[0], rel=0.15)
    colours = np.asarray(Image.open(tmp_path / nearest.differences[0]), dtype=int)
    clear = np.abs(b - a) > 20
    assert np.array_equal((colours[..., 0] > colours[..., 2])[clear], (b > a)[clear])


def test_an_unknown_method_is_no_picture_and_no_site(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="mdcsrm"):
        site.build(tmp_path / "site", results=tmp_path / "none", pictures=("mdcsrm",))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none"]


def test_serve_refuses_a_folder_that_is_no_site(tmp_path):
    with pytest.raises(UserError, match="no built site"):
        site.serve(tmp_path)


def test_serve_shows_the_site_on_loopback(built, capsys, monkeypatch):
    import http.server

    started: list[http.server.ThreadingHTTPServer] = []

    class Watched(http.server.ThreadingHTTPServer):
        def serve_forever(self, *args: object) -> None:
            started.append(self)
            super().serve_forever()

    monkeypatch.setattr(http.server, "ThreadingHTTPServer", Watched)
    thread = threading.Thread(target=site.serve, args=(built, 0), daemon=True)
    thread.start()
    for _ in range(600):
        if started:
            break
        thread.join(0.05)
    with urllib.request.urlopen(f"http://127.0.0.1:{started[0].server_port}/index.html", timeout=30) as answer:
        assert b"mrsr-bench" in answer.read()
    assert started[0].server_address[0] == "127.0.0.1"
    started[0].shutdown()
    thread.join(10)
    assert not thread.is_alive()


def test_the_command_builds_and_explains_itself(tmp_path, capsys):
    from mrsr_bench import cli

    results = made_up.store(tmp_path / "results", FEW[:2])
    words = ["leaderboard", "build", "--results", str(results), "--out", str(tmp_path / "site"), "--pictures", "none"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["submissions"] == 2
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--matrix", str(tmp_path / "none.json")])
    assert ended.value.code == 2
    assert "no such file" in capsys.readouterr().err
