"""A report says what the stored runs hold, claims no more than their subjects allow, and leaves nothing out."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.benchmarks.report import write_report
from mrsr_bench.benchmarks.reports.cells import (
    against_table,
    main_table,
    run_command,
    subject_table,
    tables_of,
    training_table,
)
from mrsr_bench.benchmarks.reports.content import content_of
from mrsr_bench.benchmarks.reports.drawing import LIGHT, Styles
from mrsr_bench.benchmarks.reports.markup import latex, markdown
from mrsr_bench.benchmarks.reports.plots import factor_plot, pictured, plots_of
from mrsr_bench.zoo.curves import OKABE_ITO

MISSING = "its parameters are not here"
HOSTILE = "<script>alert(1)</script>|_&%"


def stored(root: Path, method: str, gain: float = 0.0, *, protocol: str = "thick-4", n: int = 9, **changes) -> Path:
    """A run folder as `mrsr-bench run` writes it, with scores from a seeded generator."""
    chosen = get_protocol(protocol)
    subjects = [f"sub-{i:02d}" for i in range(n)]
    seed = int.from_bytes(hashlib.sha256(f"{method}{protocol}".encode()).digest()[:4], "big")
    base = np.random.default_rng(7).normal(30, 1.5, n) - max(chosen.factor)
    psnr = base + gain + np.random.default_rng(seed).normal(0, 0.1, n)

    def score(values):
        return {"mean": None, "ci95": None, "n": n, "per_subject": dict(zip(subjects, values.tolist(), strict=True))}

    run = {
        "model": method,
        "resolved": method,
        "weights_sha256": None,
        "subjects": subjects,
        "scores": {
            "psnr": score(psnr),
            "nrmse": score(0.5 - psnr / 100),
            "piqe": score(60 - psnr),
            "pi": {"mean": None, "ci95": None, "n": 0, "reason": MISSING},
        },
        "seconds_per_volume": 1.5,
        "peak_memory_mb": 100.0,
        "key": f"{seed:064x}",
        "protocol": chosen.name,
        "protocol_hash": chosen.hash,
        "protocol_content": chosen.content,
        "ingredients": {"method": method},
        "environments": [{"device": "cpu", "hardware": {"cpu": "a CPU", "threads": 1}}],
        "pieces": {s: {"images": [{"image": s, "fingerprint": s}]} for s in subjects},
        "dataset": "heads",
        "split": "test",
        "seed": 0,
        "synthetic": False,
        "conventions": {"psnr": "over the region"},
        **changes,
    }
    folder = root / f"{protocol}--{method[:5].strip('<')}--{len(list(root.glob('*')))}"
    (folder / "figures").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "stored"
    root.mkdir()
    for method, gain in (("cubic", 0.0), ("zero_fill", 0.5), ("linear", -1.0)):
        stored(root, method, gain)
    return root


def section_of(path):
    (section,) = content_of([path], "command").sections
    return section


def test_means_and_intervals_are_computed_from_the_subjects_whatever_the_run_says(runs):
    section = section_of(runs)
    values = list(section.values("linear", "psnr").values())
    summary = section.summaries["linear"]["psnr"]
    assert summary["mean"] == pytest.approx(np.mean(values))
    assert summary["ci95"][0] < np.mean(values) < summary["ci95"][1]


def test_differences_carry_scipys_p_value_corrected_by_hand(runs):
    section = section_of(runs)
    found = section.against("cubic", "psnr")
    cubic = np.array(list(section.values("cubic", "psnr").values()))
    p = [stats.wilcoxon(np.array(list(section.values(m, "psnr").values())) - cubic).pvalue for m in found]
    assert [found[m].p for m in found] == pytest.approx(p)
    assert min(c.p_holm for c in found.values()) == pytest.approx(2 * min(p))
    assert {c.stars for c in found.values()} == {"*"}
    assert "** (p < 0.001) cannot be reached" in section.silent_stars("cubic", "psnr")


def test_under_eight_subjects_nothing_is_claimed(tmp_path):
    for method, gain in (("cubic", 0.0), ("linear", -5.0)):
        stored(tmp_path, method, gain, n=7)
    section = section_of(tmp_path)
    table = main_table(section)
    assert not any("[" in cell.quiet or cell.strong for row in table.rows for cell in row)
    assert "n = 7 is below 8" in table.notes[0]
    compared = against_table(section, "cubic")
    assert not any("*" in cell.text or cell.quiet for row in compared.rows for cell in row)


def test_the_best_group_is_bold_and_ranks_stand_beside_the_values(runs):
    table = main_table(section_of(runs))
    psnr = {row[0].text: row[1] for row in table.rows}
    assert [name for name, cell in psnr.items() if cell.strong] == ["zero_fill"]
    assert "rank 3" in psnr["linear"].quiet
    assert any("{zero_fill} > {cubic} > {linear}" in note for note in table.notes)


def test_metrics_without_values_are_missing_with_their_reason(runs):
    section = section_of(runs)
    assert "pi" not in section.keys
    assert any(line.startswith("pi: no value in any run") and MISSING in line for line in section.missing)
    assert MISSING in markdown(content_of([runs], "command"))


def test_subjects_that_a_run_does_not_hold_are_named_and_leave_the_means_of_the_others_alone(runs):
    stored(runs, "nearest", -2.0, n=8)
    section = section_of(runs)
    assert section.values("nearest", "psnr")["sub-08"] is None
    assert section.summaries["nearest"]["psnr"]["n"] == 8
    assert any("nearest; every metric" in line and "sub-08" in line for line in section.missing)
    assert section.summaries["cubic"]["psnr"]["n"] == 9


def test_a_method_that_lacks_subjects_ranks_nowhere_and_keeps_nobody_from_a_rank(runs):
    before, before_labels = section_of(runs).rankings["psnr"], section_of(runs).labels
    stored(runs, "lanczos", 3.0, n=5)
    section = section_of(runs)
    after = section.rankings["psnr"]
    assert {label: after.of(label) for label in before_labels} == {label: before.of(label) for label in before_labels}
    assert after.of("lanczos") is None
    assert any("since not all subjects have a value: lanczos" in note for note in main_table(section).notes)


def test_a_run_that_is_a_part_of_another_is_left_out_by_name(runs):
    part = stored(runs, "cubic", n=8)
    section = section_of(runs)
    assert section.labels.count("cubic") == 1
    assert any(part.name in note for note in section.notes)


def test_two_runs_of_one_method_with_other_ingredients_stand_apart(runs):
    stored(runs, "cubic", 0.1, ingredients={"method": "another version"}, key="f" * 64)
    labels = section_of(runs).labels
    assert len(labels) == len(set(labels)) == 4
    assert {"cubic", "cubic (ffffffff)"} <= set(labels)


def test_runs_on_other_images_do_not_share_a_table(runs):
    other = {f"sub-{i:02d}": {"images": [{"image": "x", "fingerprint": "other"}]} for i in range(9)}
    stored(runs, "nearest", pieces=other)
    with pytest.raises(UserError, match="the images of sub-00 differ"):
        content_of([runs], "command")


def test_every_subject_stands_with_its_differences_from_both_baselines_and_the_training(runs, monkeypatch):
    stored(runs, "mdcsrn_b4u4", 2.0, protocol="thick-4", weights_sha256="a" * 64)
    config = {
        "parameters": 1234,
        "recipe": {"name": "quick", "stages": [{"steps": 600}, {"steps": 200}]},
        "trained": {"hardware": "a small CPU", "parent_sha256": "b" * 64},
    }
    log = runs / "log.jsonl"
    log.write_text(
        '{"stage": "l1", "step": 0, "loss": 1.0, "seconds": 1}\n{"stage": "l1", "step": 799, "seconds": 600}\n'
    )
    weights = SimpleNamespace(sha256="a" * 64, config=config, folder=runs)
    monkeypatch.setattr("mrsr_bench.zoo.weights.find_weights", lambda *_: weights)
    section = section_of(runs)
    rows = {row[0].text: row[1 + section.labels.index("mdcsrn_b4u4")] for row in subject_table(section, "psnr").rows}
    value = section.values("mdcsrn_b4u4", "psnr")["sub-03"]
    differences = [value - section.values(name, "psnr")["sub-03"] for name in ("cubic", "zero_fill")]
    assert rows["sub-03"].text == f"{value:.3f}"
    assert rows["sub-03"].quiet == " / ".join(f"{d:+.3f}" for d in differences)
    assert rows["training steps"].text == "800 ‡"
    assert rows["training time"].text == "10 min"
    assert rows["undertrained"].text == "yes"
    assert any("a small CPU" in cell.text for row in training_table(section).rows for cell in row)


def test_weights_that_are_not_here_are_said_to_be_missing(runs, monkeypatch):
    stored(runs, "mdcsrn_b4u4", 2.0, weights_sha256="a" * 64)
    monkeypatch.setattr("mrsr_bench.zoo.weights.find_weights", lambda *_: SimpleNamespace(sha256="c" * 64))
    notes = training_table(section_of(runs)).notes
    assert any("aaaaaaaaaaaaaaaa that made this run are not on this machine" in note for note in notes)


def test_factors_of_one_task_make_a_series_with_stars_in_one_family(tmp_path):
    for factor in (2, 4):
        for method, gain in (("cubic", 0.0), ("linear", -1.0)):
            stored(tmp_path, method, gain, protocol=f"thick-{factor}", n=14)
    stored(tmp_path, "cubic", protocol="kspace-2x2x1")
    content = content_of([tmp_path], "command")
    ((series,),) = [found for found in content.series.values() if found]
    assert series.factors == (2.0, 4.0)
    assert list(content.tasks) == ["kspace truncation along R and A", "thick slices along S"]
    plot = factor_plot(series, Styles(content), 1)
    assert "Stars above" in plot.note
    assert "cannot be reached" not in plot.note
    assert plot.png(LIGHT).startswith(b"\x89PNG")


def test_figures_that_cannot_be_drawn_say_why(runs):
    content = content_of([runs], "command")
    plots = {plot.name.rpartition("--")[2]: plot for plot in plots_of(content.sections[0], Styles(content))}
    assert "resolution_r" in plots["resolution"].missing
    assert plots["perception-distortion"].missing is None
    assert "pi, niqe" in plots["perception-distortion"].note
    assert "without figures" in pictured(content.sections[0])[1]


def test_pictures_are_those_of_the_worst_the_middle_and_the_best_subject(runs):
    folder = next(runs.glob("*cubic*"))
    for i in range(9):
        (folder / "figures" / f"sub-{i:02d}--abc.png").write_bytes(b"png")
    section = section_of(runs)
    mean = {s: np.mean([section.values(label, "psnr")[s] for label in section.labels]) for s in section.subjects}
    order = sorted(mean, key=mean.get)
    assert [subject for subject, _ in pictured(section)[0]] == [order[0], order[4], order[8]]


def assert_regular(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(tables) > 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("stored")
    stored(root, "cubic")
    stored(root, HOSTILE, 1.0)
    out = tmp_path_factory.mktemp("report") / "deep"
    return out, write_report([root], out)


def test_the_page_asks_nothing_of_the_network_and_runs_nothing(written):
    out, _ = written
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "iframe", "object", "form"} & set(names)
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#"))
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy


def test_the_page_can_be_read_without_eyes_and_used_without_a_mouse(written):
    out, _ = written
    text = (out / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert images
    assert all(len(image["alt"]) > 20 for image in images)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert set(links) <= set(ids)
    scrolled = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(attributes["tabindex"] == "0" and attributes["aria-label"] for attributes in scrolled)
    assert ("html", {"lang": "en"}) in page.tags
    assert "prefers-color-scheme: dark" in text


def test_a_hostile_name_is_only_a_name(written):
    out, found = written
    assert "<script>" not in (out / "index.html").read_text(encoding="utf-8")
    assert_regular((out / "table.md").read_text(encoding="utf-8"))
    assert HOSTILE in found["sections"][0]["scores"]


def test_files_are_all_there_and_json_has_no_nan(written):
    out, found = written
    assert all(Path(file).is_file() for file in found["files"])
    assert {"index.html", "tables.tex", "table.md"} <= {path.name for path in out.iterdir()}
    assert not list(out.glob(".*"))
    json.dumps(found, allow_nan=False)
    assert "zero_fill: no run of this baseline" in " ".join(found["sections"][0]["missing"])


def test_latex_is_balanced_and_every_row_has_as_many_cells_as_the_head(runs):
    text = latex(content_of([runs], "command"))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    bare = re.sub(r"\\[{}&%#_$]", "", "\n".join(body))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert len({line.count(" & ") for line in body if line.endswith(r"\\")}) == 1


def test_markdown_begins_with_the_command_and_its_tables_are_regular(runs):
    text = markdown(content_of([runs], "mrsr-bench report runs --out docs"))
    assert text.startswith("Written by\n\n```\nmrsr-bench report runs --out docs\n```\n")
    assert_regular(text)
    for baseline in ("cubic", "zero_fill"):
        assert f"each method minus {baseline}" in text
    assert "mrsr-bench run --model cubic" in text


def test_equal_runs_give_equal_pages(tmp_path, runs):
    first, second = (content_of([runs], "command") for _ in range(2))
    assert markdown(first) == markdown(second)
    plots = [plots_of(content.sections[0], Styles(content))[0].png(LIGHT) for content in (first, second)]
    assert plots[0] == plots[1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.pop("pieces"),
        lambda run: run["scores"].update(psnr=5),
        lambda run: run["scores"]["psnr"]["per_subject"].update({"sub-00": "much"}),
        lambda run: run.update(subjects=["sub-00", 3]),
        lambda run: run.update(protocol_content={"name": 1}),
        lambda run: run["pieces"].pop("sub-00"),
    ],
)
def test_a_spoiled_run_gives_a_sentence_and_no_report(runs, tmp_path, spoil):
    file = next(runs.glob("*cubic*")) / "run.json"
    run = json.loads(file.read_text(encoding="utf-8"))
    spoil(run)
    file.write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(UserError, match="run it again"):
        write_report([runs], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_not_a_number_is_missing(runs):
    file = next(runs.glob("*cubic*")) / "run.json"
    run = json.loads(file.read_text(encoding="utf-8"))
    run["scores"]["psnr"]["per_subject"]["sub-00"] = float("nan")
    file.write_text(json.dumps(run), encoding="utf-8")
    assert section_of(runs).values("cubic", "psnr")["sub-00"] is None


def test_no_run_at_all_gives_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no such run"):
        write_report([tmp_path / "nothing"], tmp_path / "out")
    with pytest.raises(UserError, match="name at least one run"):
        write_report([], tmp_path / "out")


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_can_be_told_from_the_page_in_light_and_dark():
    from mrsr_bench.benchmarks.reports.drawing import DARK

    for theme in (LIGHT, DARK):
        for colour, least in [*((c, 2.2) for c in theme.methods), (theme.ink, 7), (theme.quiet, 4.5)]:
            high, low = sorted((luminance(colour), luminance(theme.paper)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (theme.name, colour)
    assert set(LIGHT.methods) & set(OKABE_ITO)


def with_further_metrics(root: Path, method: str, cutoff: float, n: int = 9) -> Path:
    """A run that also holds hfen, and FSC curves that fall at ``cutoff`` of the Nyquist frequency of every axis."""
    folder = stored(root, method, n=n)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    per_subject = {subject: 0.3 + 0.01 * i for i, subject in enumerate(run["subjects"])}
    run["scores"]["hfen"] = {"mean": None, "ci95": None, "n": n, "per_subject": per_subject}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    share = np.linspace(0.02, 0.98, 40)
    curves = {}
    for subject, nyquist in zip(run["subjects"], np.linspace(0.3, 0.5, n), strict=True):
        curve = {
            "frequency": (share * nyquist).tolist(),
            "correlation": (1 / (1 + np.exp(30 * (share - cutoff)))).tolist(),
            "nyquist": nyquist,
        }
        curves[subject] = {subject: {"resolution": curve, "resolution_r": curve, "resolution_s": curve}}
    (folder / "curves.json").write_text(json.dumps(curves), encoding="utf-8")
    return folder


def test_further_metrics_stand_in_a_table_of_their_own_unless_asked_for(tmp_path):
    for method, cutoff in (("cubic", 0.3), ("linear", 0.2)):
        with_further_metrics(tmp_path, method, cutoff)
    section = section_of(tmp_path)
    assert "hfen ↓" not in main_table(section).columns
    assert "hfen" not in section.rankings, "what is not in the first table ranks nobody"
    further = next(table for table in tables_of(section) if "further metrics" in table.caption)
    assert further.columns == ("method", "hfen ↓")
    assert {row[1].text for row in further.rows} == {"0.340"}
    (asked,) = content_of([tmp_path], "command", ["hfen"]).sections
    assert "hfen ↓" in main_table(asked).columns
    assert "hfen" in asked.rankings
    with pytest.raises(UserError, match="did you mean hfen"):
        content_of([tmp_path], "command", ["hfem"])


def test_shell_correlations_are_drawn_where_they_are_stored(tmp_path):
    for method, cutoff in (("cubic", 0.3), ("linear", 0.2)):
        with_further_metrics(tmp_path, method, cutoff)
    stored(tmp_path, "zero_fill")
    content = content_of([tmp_path], "command")
    (plot,) = [p for p in plots_of(content.sections[0], Styles(content)) if p.name.endswith("--fsc")]
    assert "along R, S" in plot.alt
    assert "Without curves: zero_fill" in plot.note
    axes = plot.draw(LIGHT).axes
    assert [one.get_xlabel()[:7] for one in axes] == ["along R", "along S"]
    lines = {line.get_label(): line for line in axes[1].lines}
    for label, cutoff in (("cubic", 0.3), ("linear", 0.2)):
        x, y = lines[label].get_data()
        assert np.interp(0.5, y[::-1], x[::-1]) == pytest.approx(cutoff, abs=0.01), "whatever the subjects' spacing"
    assert [line.get_xdata()[0] for line in axes[1].lines if len(line.get_xdata()) == 2][-1] == pytest.approx(1 / 4)


@pytest.mark.parametrize("spoil", ["{", "[]", '{"sub-00": {"i": {"resolution_r": {"frequency": [1]}}}}'])
def test_spoiled_curves_give_a_sentence(tmp_path, spoil):
    folder = with_further_metrics(tmp_path / "stored", "cubic", 0.3)
    (folder / "curves.json").write_text(spoil, encoding="utf-8")
    with pytest.raises(UserError, match="not readable curves"):
        write_report([folder], tmp_path / "out")


def test_the_command_of_a_table_says_how_many_subjects(tmp_path):
    stored(tmp_path, "cubic", n=3)
    assert "--subjects 3" in run_command(section_of(tmp_path))
    assert "--dataset PATH/heads --protocol" in run_command(section_of(tmp_path))


def test_the_command_of_a_table_says_which_image_of_a_subject_was_asked_for(tmp_path):
    stored(tmp_path, "cubic", n=3, suffix="T2w")
    assert "--dataset PATH/heads --suffix T2w --protocol" in run_command(section_of(tmp_path))


def test_trainings_with_other_seeds_show_their_spread_and_rank_nowhere(tmp_path):
    first = [stored(tmp_path, "cubic"), stored(tmp_path, "soup_multi", 1.0, weights_sha256="1" * 64)]
    again = [stored(tmp_path / str(i), "soup_multi", 1.0 + i / 8, weights_sha256=str(i) * 64) for i in (2, 3)]
    (section,) = content_of(first, "c", (), again).sections
    assert section.labels == ["cubic", "soup_multi"]
    means = [float(np.mean(list(values(folder).values()))) for folder in (first[1], *again)]
    table = against_table(section, "cubic")
    assert [row[0].text for row in table.rows] == ["soup_multi", "soup_multi, 3 trainings"]
    assert table.rows[1][1].text == f"± {np.std(means, ddof=1):.3f}"
    assert any("seed" in note for note in table.notes)
    out = write_report(first, tmp_path / "out", repeats=again)
    assert out["sections"]
    text = (tmp_path / "out/table.md").read_text()
    assert text.count("--repeat") == 2
    with pytest.raises(UserError, match="repeats none of the runs"):
        content_of(first[:1], "c", (), again)
    with pytest.raises(UserError, match="the weights of the run it repeats"):
        content_of(first, "c", (), first[1:])


def values(folder):
    return json.loads((folder / "run.json").read_text())["scores"]["psnr"]["per_subject"]
