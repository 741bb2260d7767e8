"""Plots stay readable: few labels, names over nothing, lines between protocols that differ in their factor alone."""

from __future__ import annotations

import re
from itertools import pairwise

import made_up
import pytest

from mrsr_bench.leaderboards import board, plots, site

STYLE = (site.FOLDER / "assets/style.css").read_text(encoding="utf-8")
CROWD = [made_up.submission(f"crowded_net_{i:02d}", seed=i, gain=0.1 * (i % 5)) for i in range(14)]


def test_an_absurd_entry_gives_no_axis_of_thirty_labels():
    slow = made_up.submission("slow", seconds_per_volume=1e12)
    quick = made_up.submission("quick", seconds_per_volume=1e-18)
    plot = plots.quality_cost(board.make_board([slow, quick]).tables[0], "seconds")
    assert 3 <= len(plot.x_ticks) <= plots.MOST_TICKS
    assert plot.x_ticks[-1].text.endswith((" G", " T"))
    assert len({round(b.at - a.at) for a, b in pairwise(plot.x_ticks)}) == 1


@pytest.mark.parametrize("screen", plots._LINE)
def test_names_lie_over_nothing_on_a_screen_of_either_size(screen):
    plot = plots.quality_cost(board.make_board(CROWD).tables[0], "parameters")
    high = plots._LINE[screen]
    named = [mark for mark in plot.marks if getattr(mark, screen)]
    assert 2 <= len(named) <= plots.LABELLED
    boxes = {m: plots._span(m.x, 0.55 * high * len(m.label), getattr(m, screen)) for m in named}
    for mark, (start, end) in boxes.items():
        assert plot.left <= start
        assert end <= plot.right
        for other in plot.marks:
            clear = abs(other.y - mark.y) >= high / 2 + 4 or not start - 5 < other.x < end + 5
            assert clear or other == mark
            if other in boxes and other != mark:
                a, b = boxes[other]
                assert abs(other.y - mark.y) > high - 1 or b < start or a > end


def test_the_plots_reckon_with_the_size_of_text_that_the_style_sheet_sets():
    sizes = [float(size) for size in re.findall(r"\.plot text \{[^}]*font-size: (\d+)px", STYLE)]
    assert sizes == list(plots._LINE.values())


def test_there_are_at_most_two_plots_beside_each_other():
    least = float(re.search(r"\.plots \{[^}]*minmax\(min\(100%, (\d+)rem", STYLE)[1])
    widest = float(re.search(r"main, footer \{ max-width: (\d+)rem", STYLE)[1])
    assert 3 * least > widest


def test_marks_without_a_name_in_the_plot_are_named_below_it(tmp_path):
    found = board.make_board(CROWD)
    site._write_pages(tmp_path, found, [], None)
    text = next(tmp_path.glob("tasks/*.html")).read_text(encoding="utf-8")
    figure = text[text.index('id="plot-parameters"') : text.index('id="plot-seconds"')]
    drawn, below = figure.split("</svg>")
    assert all(f'class="name {screen}"' in drawn for screen in plots._LINE)
    for mark in plots.quality_cost(found.tables[0], "parameters").marks:
        for screen in plots._LINE:
            assert getattr(mark, screen) or f">{mark.text}</a>" in below


def test_protocols_of_one_degradation_along_the_same_axes_are_one_family():
    names = ("inplane-4x4x1", "inplane-8x8x1", "inplane-1x4x1", "inplane-1x8x1", "thick-4", "thick-6", "thin-4")
    names += ("soup2022-thick-4", "soup2022-thick-6", "prostate2019-aniso-4x", "prostate2019-aniso-8x")
    tables = board.make_board([made_up.submission("cubic", network=False, protocol=name) for name in names]).tables
    families = {table.protocol: plots.family_of(table) for table in tables}
    assert families["inplane-4x4x1"] == families["inplane-8x8x1"] != families["inplane-1x4x1"]
    assert families["inplane-1x4x1"] == families["inplane-1x8x1"]
    assert families["thick-4"] == families["thick-6"] != families["thin-4"]
    assert families["soup2022-thick-4"] == families["soup2022-thick-6"] != families["thick-4"]
    assert families["prostate2019-aniso-4x"] == families["prostate2019-aniso-8x"]
    titles = [plot.title.split(" ")[0] for plot in plots.over_factors(tables)]
    assert sorted(titles) == ["inplane-1xNx1", "inplane-NxNx1", "prostate2019-aniso", "soup2022-thick", "thick"]


def test_a_method_of_one_factor_is_a_point_beside_the_lines_of_the_others():
    two = [made_up.submission("cubic", network=False, protocol=f"inplane-{f}x{f}x1") for f in (4, 8)]
    one = made_up.submission("net", protocol="inplane-8x8x1")
    (plot,) = plots.over_factors(board.make_board([one, *two]).tables)
    assert {line.label: len(line.points) for line in plot.lines} == {"cubic": 2, "net": 1}
    assert plots.over_factors(board.make_board([one]).tables) == []
