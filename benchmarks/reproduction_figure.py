"""A reproduced figure: metrics against the factor with stars, drawn as SOUP-GAN's Figures 2, 5 and 8 are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.reports.drawing import LIGHT, MARKS, Plot, Theme, legend, new_figure, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def is_figure(table: Mapping[str, Any]) -> bool:
    """Whether the paper has it as a figure: several factors, and stars against a baseline."""
    return bool(table.get("stars_against")) and len(table["panels"]) > 1


def figure_png(found: Mapping[str, Any], factors: Sequence[float]) -> bytes:
    """The figure of a result of `reproduce` as a PNG file; ``factors`` are those of its panels."""
    title = f"{found['name']} on {found['dataset']}"
    return Plot(found["name"], title, "", lambda theme: _drawn(found, factors, theme)).png(LIGHT)


def _drawn(found: Mapping[str, Any], factors: Sequence[float], theme: Theme) -> Figure:
    from mrsr_bench.benchmarks.reproduction_tables import header_of, warnings_of

    labels = list(dict.fromkeys(row["label"] for panel in found["panels"] for row in panel["rows"]))
    keys = found["metrics"]
    figure = new_figure(theme, 2.4 + 2.7 * len(keys), 3.9)
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        prepare(axes, theme)
        for place, label in enumerate(labels):
            points = _points(found, factors, label, key)
            style = {"color": theme.methods[place], "marker": MARKS[place], "ms": 5, "lw": 1.4}
            name = label if points else f"{label} (missing)"
            axes.plot([x for x, _, _ in points], [y for _, y, _ in points], label=name, **style)
            for x, y, stars in points:
                if stars:
                    axes.annotate(stars, (x, y), (0, 3), textcoords="offset points", ha="center", color=style["color"])
        axes.set_xticks(list(factors), [f"{factor:g}" for factor in factors])
        axes.set_xlim(min(factors) - 0.3, max(factors) + 0.3)
        axes.set_xlabel("factor", fontsize=9, color=theme.ink)
        axes.set_ylabel(header_of(key), fontsize=9, color=theme.ink)
    legend(figure, panels[0], theme)
    n = len(found["panels"][0]["subjects"])
    first = f"{found['name']} on {found['dataset']}, n = {n}"
    told = "\n".join([first, *(line.partition(";")[0] for line in warnings_of(found))])
    figure.suptitle(told, fontsize=8, color=theme.ink, x=0.01, ha="left")
    return figure


def _points(found: Mapping[str, Any], factors: Sequence[float], label: str, key: str) -> list[tuple[float, float, str]]:
    """Factor, mean and stars wherever the method has a value."""
    points = []
    for factor, panel in zip(factors, found["panels"], strict=True):
        for row in panel["rows"]:
            score = row["ours"].get(key, {}) if row["label"] == label else {}
            if score.get("mean") is not None:
                points.append((factor, float(score["mean"]), str(score.get("stars") or "")))
    return points
