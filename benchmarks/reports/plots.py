"""The figures of a report, each in colours for light and for dark pages.

A method has one colour and one mark in the whole report. A figure that cannot be drawn from what the runs hold says
why instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.reports.content import FIRST_METRICS, Entry, Section, Series, higher_is_better
from mrsr_bench.benchmarks.reports.drawing import (
    Plot,
    Styles,
    Theme,
    interval_ends,
    legend,
    log_axis,
    new_figure,
    prepare,
)
from mrsr_bench.benchmarks.reports.shells import correlation_plot, resolution_plot
from mrsr_bench.benchmarks.statistics import against_baseline, silence_of
from mrsr_bench.benchmarks.tables import header

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PERCEPTUAL = ("pi", "niqe", "niqe_matlab", "lpips", "dists", "piqe", "ma")
"""What may stand on the axis of perception, first choice first."""
DISTORTION = ("rmse", "nrmse")


def plots_of(section: Section, styles: Styles) -> list[Plot]:
    """The figures of one table."""
    return [
        _strips(section, styles),
        _perception(section, styles),
        _cost(section, styles),
        correlation_plot(section, styles),
        resolution_plot(section, styles),
    ]


def _strips(section: Section, styles: Styles) -> Plot:
    keys = [key for key in FIRST_METRICS if key in section.keys] or section.keys[:3]
    name, title = f"{section.slug}--subjects", "Every subject under every method"
    if not keys:
        return Plot(name, title, "", missing="no run has a value of any metric")
    n = len(section.subjects)
    alt = f"{title}: {', '.join(keys)} of {n} subjects under {', '.join(section.labels)}, see the tables by subject."
    note = (
        "A dot is a subject, at the same height in every row, and a line follows it from method to method. Bar: mean."
    )
    note += "" if section.few else " Thick line: 95 % interval of the mean."
    return Plot(name, title, alt, lambda theme: _draw_strips(section, styles, keys, theme), note=note)


def _draw_strips(section: Section, styles: Styles, keys: Sequence[str], theme: Theme) -> Figure:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    labels, subjects = section.labels, section.subjects
    figure = new_figure(theme, 2.2 + 2.6 * len(keys), 0.9 + 0.5 * len(labels))
    all_axes = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    spread = np.linspace(-0.3, 0.3, len(subjects)) if len(subjects) > 1 else np.zeros(1)
    for axes, key in zip(all_axes, keys, strict=True):
        prepare(axes, theme)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(header(key), fontsize=9, color=theme.ink)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        rows = [[v if v is not None else np.nan for v in section.values(label, key).values()] for label in labels]
        for index in range(len(subjects)):
            heights = np.arange(len(labels)) + spread[index]
            axes.plot([row[index] for row in rows], heights, color=theme.faint, lw=0.7, zorder=1)
        for place, (label, row) in enumerate(zip(labels, rows, strict=True)):
            colour = styles.colour(label, theme)
            axes.scatter(row, place + spread, s=15, color=colour, marker=styles.mark(label), lw=0, alpha=0.85, zorder=3)
            mean, ends = section.summaries[label][key]["mean"], interval_ends(section, label, key)
            if mean is None:
                axes.text(
                    0.5,
                    place,
                    "missing",
                    transform=axes.get_yaxis_transform(),
                    fontsize=8,
                    color=theme.quiet,
                    ha="center",
                    va="center",
                )
                continue
            axes.plot([mean, mean], [place - 0.38, place + 0.38], color=theme.ink, lw=1.6, zorder=4)
            if ends is not None:
                axes.plot(
                    [mean - ends[0], mean + ends[1]], [place, place], color=theme.ink, lw=3.2, alpha=0.55, zorder=4
                )
    all_axes[0].set_yticks(range(len(labels)), labels)
    all_axes[0].set_ylim(len(labels) - 0.5, -0.5)
    return figure


def _points(axes: Any, styles: Styles, theme: Theme, label: str, x: Any, y: Any, bars: Any) -> None:
    axes.errorbar(
        [x],
        [y],
        **bars,
        fmt=styles.mark(label),
        color=styles.colour(label, theme),
        ms=7,
        elinewidth=1.2,
        label=label,
        markeredgecolor=theme.paper,
        markeredgewidth=0.6,
    )


def _bar(ends: tuple[float, float] | None) -> Any:
    return None if ends is None else [[ends[0]], [ends[1]]]


def _perception(section: Section, styles: Styles) -> Plot:
    name, title = f"{section.slug}--perception-distortion", "Perception against distortion"

    def known(key: str) -> list[str]:
        if key not in section.keys:
            return []
        return [label for label in section.labels if section.summaries[label][key]["mean"] is not None]

    x = next((key for key in DISTORTION if len(known(key)) > 1), None)
    y = next((key for key in PERCEPTUAL if len(known(key)) > 1), None)
    if x is None or y is None:
        wanted = " or ".join(DISTORTION) if x is None else " or ".join(PERCEPTUAL)
        return Plot(name, title, "", missing=f"fewer than two runs have a value of {wanted}")
    labels = [label for label in known(x) if label in known(y)]

    def draw(theme: Theme) -> Figure:
        figure = new_figure(theme, 6.4, 3.6)
        axes = figure.subplots()
        prepare(axes, theme)
        for label in labels:
            mean_x, mean_y = (section.summaries[label][key]["mean"] for key in (x, y))
            bars = {"xerr": _bar(interval_ends(section, label, x)), "yerr": _bar(interval_ends(section, label, y))}
            _points(axes, styles, theme, label, mean_x, mean_y, bars)
        axes.set_xlabel(f"distortion: {header(x)}", fontsize=9, color=theme.ink)
        axes.set_ylabel(f"perception: {header(y)}", fontsize=9, color=theme.ink)
        legend(figure, axes, theme)
        return figure

    alt = f"{y} against {x}, one mark per method: {', '.join(labels)}; the values stand in the first table."
    better = "upper" if y == "ma" else "lower"
    note = f"Better is the {better} left corner (Blau and Michaeli 2018). {y} is informational: it ranks nobody."
    if y != PERCEPTUAL[0]:
        note += f" {', '.join(PERCEPTUAL[: PERCEPTUAL.index(y)])}: no values."
    absent = [label for label in section.labels if label not in labels]
    note += f" Without a value: {', '.join(absent)}." if absent else ""
    return Plot(name, title, alt, draw, note=note)


def _cost(section: Section, styles: Styles) -> Plot:
    name, title = f"{section.slug}--cost", "Quality against cost"
    key = next(iter(section.keys), None)
    labels = [e.label for e in section.entries if key and section.summaries[e.label][key]["mean"] is not None]
    entries = {entry.label: entry for entry in section.entries if entry.label in labels}
    timed = {label: seconds for label, entry in entries.items() if (seconds := entry.seconds)}
    if key is None or not timed:
        return Plot(name, title, "", missing="no run has both a score and a time")
    quality = key

    def draw(theme: Theme) -> Figure:
        sized = [e.training.parameters for e in entries.values() if e.training.parameters]
        figure = new_figure(theme, 8.6 if sized else 5.4, 3.4)
        left, *others = figure.subplots(1, 2 if sized else 1, sharey=True, squeeze=False)[0]
        ranges: tuple[list[float], list[float]] = (list(timed.values()), [float(n) for n in sized])
        for axes, range_, what in zip((left, *others), ranges, ("seconds per volume", "parameters"), strict=False):
            prepare(axes, theme)
            log_axis(axes, max(range_) / min(range_))
            axes.set_xlim(min(range_) / 2, max(range_) * 2)
            axes.set_xlabel(what, fontsize=9, color=theme.ink)
        left.set_ylabel(header(quality), fontsize=9, color=theme.ink)
        for label, entry in entries.items():
            mean = section.summaries[label][quality]["mean"]
            bars = {"yerr": _bar(interval_ends(section, label, quality))}
            if label in timed:
                _points(left, styles, theme, label, timed[label], mean, bars)
            for axes in others:
                if entry.training.parameters:
                    _points(axes, styles, theme, label, entry.training.parameters, mean, bars)
                elif entry.training.none_needed:
                    axes.axhline(mean, color=styles.colour(label, theme), lw=1.1, ls=(0, (4, 2)))
        legend(figure, left, theme)
        return figure

    alt = f"{quality} against seconds per volume and against parameters for {', '.join(labels)}; values in the tables."
    note = f"Dashed: methods without parameters. Timed on: {_where(section.entries)}."
    untimed = [label for label in labels if label not in timed]
    note += f" Without a time: {', '.join(untimed)}." if untimed else ""
    return Plot(name, title, alt, draw, note=note)


def _where(entries: Sequence[Entry]) -> str:
    return " | ".join(dict.fromkeys(entry.hardware for entry in entries))


def factor_plot(series: Series, styles: Styles, number: int, baseline: str = "cubic") -> Plot:
    """Metrics against the factor with stars for the differences from ``baseline``, as SOUP-GAN's Figures 5 and 8."""
    keys = [key for key in FIRST_METRICS if all(key in section.keys for section in series.sections)]
    name, title = f"factors--{number}", f"Metric against factor: {series.title}"
    if not keys:
        return Plot(name, title, "", missing=f"no metric of {', '.join(FIRST_METRICS)} has values at every factor")
    tested, notes = _stars(series, keys, baseline)
    alt = (
        f"{', '.join(keys)} of {', '.join(series.labels)} at the factors {', '.join(f'{f:g}' for f in series.factors)}."
    )
    note = "Line: mean over subjects" + (
        ", bar: its 95 % interval. " if any(not s.few for s in series.sections) else ". "
    )
    note += f"Stars above in a method's colour: it differs from {baseline}, * p < 0.05, ** p < 0.001 "
    note += f"(two-sided Wilcoxon, Holm over all methods and factors of a metric). {' '.join(notes)}".rstrip()
    gaps = [
        f"{label} at {factor:g}"
        for section, factor in zip(series.sections, series.factors, strict=True)
        for label in series.labels
        if label not in section.labels
    ]
    note += f" No run of {', '.join(gaps)} was given." if gaps else ""
    return Plot(name, title, alt, lambda theme: _draw_factors(series, styles, keys, tested, theme), note=note)


Drawn = dict[str, dict[tuple[str, int], str]]


def _stars(series: Series, keys: Sequence[str], baseline: str) -> tuple[Drawn, list[str]]:
    """By metric: the stars of (method, place of the factor), and why some cannot be."""
    drawn: Drawn = {}
    places = list(enumerate(series.sections))
    absent = [series.factors[place] for place, section in places if baseline not in section.labels]
    notes = dict.fromkeys(f"No {baseline} at {factor:g}, so no star there." for factor in absent)
    for key in keys:
        values = {(label, place): section.values(label, key) for place, section in places for label in section.labels}
        found = against_baseline(values, baseline)
        drawn[key] = {where: comparison.stars for where, comparison in found.items()}
        if reason := silence_of(found):
            notes[f"No more stars: {reason}."] = None
    return drawn, list(notes)


def _draw_factors(series: Series, styles: Styles, keys: Sequence[str], stars: Drawn, theme: Theme) -> Figure:
    starred = [
        label for label in series.labels if any(d for of in stars.values() for (m, _), d in of.items() if m == label)
    ]
    figure = new_figure(theme, 2.2 + 2.7 * len(keys), 3.2 + 0.16 * len(starred))
    all_axes = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(all_axes, keys, strict=True):
        prepare(axes, theme)
        for label in series.labels:
            places = [i for i, section in enumerate(series.sections) if label in section.labels]
            places = [i for i in places if series.sections[i].summaries[label][key]["mean"] is not None]
            if not places:
                continue
            x = [series.factors[i] for i in places]
            y = [series.sections[i].summaries[label][key]["mean"] for i in places]
            style = {"color": styles.colour(label, theme), "marker": styles.mark(label), "ms": 5, "lw": 1.4}
            axes.plot(x, y, label=label, **style)
            for i, value in zip(places, y, strict=True):
                ends = interval_ends(series.sections[i], label, key)
                if ends is not None:
                    axes.errorbar(
                        series.factors[i], value, yerr=_bar(ends), color=style["color"], elinewidth=1, capsize=2
                    )
        for (label, place), drawn in stars[key].items():
            if drawn:
                height = 1.03 + 0.06 * starred.index(label)
                axes.annotate(
                    drawn,
                    (series.factors[place], height),
                    xycoords=axes.get_xaxis_transform(),
                    fontsize=10,
                    color=styles.colour(label, theme),
                    ha="center",
                    va="center",
                    annotation_clip=False,
                )
        axes.set_xticks(series.factors, [f"{factor:g}" for factor in series.factors])
        axes.set_xlabel("factor", fontsize=9, color=theme.ink)
        axes.set_ylabel(header(key), fontsize=9, color=theme.ink)
    legend(figure, max(all_axes, key=lambda axes: len(axes.get_legend_handles_labels()[0])), theme)
    return figure


def pictured(section: Section) -> tuple[list[tuple[str, Path]], str]:
    """The stored pictures of up to three subjects, and the rule that chose them or why there are none.

    The rule: the subjects that are worst, in the middle and best by the first metric, averaged over the methods.
    """
    from mrsr_bench.benchmarks.results import file_name

    files: dict[str, Path] = {}
    for entry in section.entries:
        for file in entry.figures():
            files.setdefault(file.name, file)
    of_subject = {s: [f for name, f in files.items() if name.startswith(f"{file_name(s)}--")] for s in section.subjects}
    drawn = [subject for subject, found in of_subject.items() if found]
    if not drawn:
        return [], "the runs were stored without figures; run them again with --figures"
    key = next(iter(section.keys), None)
    if key is not None:
        means: dict[str, float] = {}
        for subject in drawn:
            values = [v for label in section.labels if (v := section.values(label, key)[subject]) is not None]
            means[subject] = sum(values) / len(values) if values else 0.0
        drawn.sort(key=lambda subject: means[subject] * (1 if higher_is_better(key) is not False else -1))
    chosen = list(dict.fromkeys((drawn[0], drawn[len(drawn) // 2], drawn[-1])))
    pictures = [(subject, max(of_subject[subject], key=lambda f: f.stat().st_size)) for subject in chosen]
    rule = f"the worst, the middle and the best subject by {key}, averaged over the methods" if key else "the first"
    return pictures, f"Shown: {rule}; {len(drawn)} of {len(section.subjects)} subjects have a stored picture."
