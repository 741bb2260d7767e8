"""Figures of agreement in frequency: Fourier shell correlation along each axis, and the resolution read from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.metrics.frequency import THRESHOLD
from mrsr_bench.benchmarks.reports.content import Section
from mrsr_bench.benchmarks.reports.drawing import Plot, Styles, Theme, legend, new_figure, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESOLUTIONS = {"resolution_r": "R", "resolution_a": "A", "resolution_s": "S"}
POINTS = 200
HOW = "`mrsr-bench run --metrics resolution_r,resolution_a,resolution_s` adds them"


def correlation_plot(section: Section, styles: Styles) -> Plot:
    """FSC of SR and HR against frequency, one panel per axis, mean over subjects."""
    name, title = f"{section.slug}--fsc", "Fourier shell correlation with HR, per axis"
    curves = {entry.label: found for entry in section.entries if (found := _mean_curves(entry.curves, section))}
    if not curves:
        return Plot(name, title, "", missing=f"these runs hold no curves; {HOW}")
    keys = [key for key in RESOLUTIONS if any(key in of for of in curves.values())]
    alt = (
        f"Correlation of the spectra of SR and HR along {', '.join(RESOLUTIONS[k] for k in keys)} against frequency "
        f"for {', '.join(curves)}: near 1 at low frequencies, and falling where SR no longer holds what HR does."
    )
    note = (
        "Mean over subjects; frequencies within 20 degrees of an axis, as a share of HR's Nyquist frequency. Dotted: "
        f"{THRESHOLD:g}, where resolution is read; dashed: the highest frequency that LR's spacing can hold."
    )
    absent = [label for label in section.labels if label not in curves]
    note += f" Without curves: {', '.join(absent)}." if absent else ""

    def draw(theme: Theme) -> Figure:
        figure = new_figure(theme, 2.2 + 2.7 * len(keys), 3.2)
        panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
        for axes, key in zip(panels, keys, strict=True):
            prepare(axes, theme)
            axes.axhline(THRESHOLD, color=theme.quiet, lw=0.9, ls=":")
            factor = section.protocol.factor[list(RESOLUTIONS).index(key)]
            if factor > 1:
                axes.axvline(1 / factor, color=theme.quiet, lw=0.9, ls=(0, (5, 3)))
            for place, (label, of) in enumerate(curves.items()):
                if key in of:
                    x, y = of[key]
                    marked = (2 + place * (POINTS // 8) // len(curves), POINTS // 8)
                    style = {"color": styles.colour(label, theme), "marker": styles.mark(label), "markevery": marked}
                    axes.plot(x, y, label=label, lw=1.3, ms=4, **style)
            axes.set_xlim(0, 1)
            axes.set_xlabel(f"along {RESOLUTIONS[key]}, of HR's Nyquist frequency", fontsize=9, color=theme.ink)
        panels[0].set_ylabel("correlation ↑", fontsize=9, color=theme.ink)
        legend(figure, panels[0], theme)
        return figure

    return Plot(name, title, alt, draw, note=note)


def _mean_curves(stored: Mapping[str, Mapping[str, Mapping[str, Any]]], section: Section) -> dict[str, tuple[Any, Any]]:
    """By metric: shares of the Nyquist frequency that every subject's curve reaches, and the mean correlation there."""
    import numpy as np

    found = {}
    for key in RESOLUTIONS:
        of_subjects = []
        for subject in section.subjects:
            images = [image[key] for image in stored.get(subject, {}).values() if key in image]
            scaled = [(np.asarray(c["frequency"]) / c["nyquist"], np.asarray(c["correlation"])) for c in images]
            of_subjects += [scaled] if scaled else []
        if not of_subjects:
            continue
        ends = [(x[0], x[-1]) for scaled in of_subjects for x, _ in scaled]
        x = np.linspace(max(first for first, _ in ends), min(last for _, last in ends), POINTS)
        y = np.mean([np.mean([np.interp(x, *curve) for curve in scaled], axis=0) for scaled in of_subjects], axis=0)
        found[key] = (x, y)
    return found


def resolution_plot(section: Section, styles: Styles) -> Plot:
    """The period at which each method and HR stop agreeing along each axis, subjects and their mean."""
    name, title = f"{section.slug}--resolution", "Resolution by Fourier shell correlation, per axis"
    keys = [key for key in RESOLUTIONS if key in section.keys]
    if not keys:
        why = [line for line in section.missing if "resolution_" in line.partition(":")[0]]
        return Plot(name, title, "", missing=why[0] if why else f"these runs hold no {', '.join(RESOLUTIONS)}; {HOW}")

    labels = [x for x in section.labels if any(section.summaries[x][key]["mean"] is not None for key in keys)]

    def draw(theme: Theme) -> Figure:
        import numpy as np

        figure = new_figure(theme, 6.4, 3.4)
        axes = figure.subplots()
        prepare(axes, theme)
        axes.grid(visible=False, axis="x")
        offsets = np.linspace(-0.28, 0.28, len(labels)) if len(labels) > 1 else np.zeros(1)
        for label, offset in zip(labels, offsets, strict=True):
            means = [section.summaries[label][key]["mean"] for key in keys]
            places = [i + offset for i, mean in enumerate(means) if mean is not None]
            axes.plot(
                places,
                [mean for mean in means if mean is not None],
                styles.mark(label),
                color=styles.colour(label, theme),
                ms=7,
                label=label,
            )
            for i, key in enumerate(keys):
                values = [v for v in section.values(label, key).values() if v is not None]
                axes.scatter(
                    [i + offset] * len(values), values, s=7, color=styles.colour(label, theme), alpha=0.45, lw=0
                )
        axes.set_xticks(range(len(keys)), [RESOLUTIONS[key] for key in keys])
        axes.set_xlim(-0.5, len(keys) - 0.5)
        axes.set_ylabel("period where FSC < 0.5, mm ↓", fontsize=9, color=theme.ink)
        legend(figure, axes, theme)
        return figure

    alt = f"The period at which SR and HR stop agreeing along {', '.join(RESOLUTIONS[k] for k in keys)}, by method."
    note = "Large mark: mean; small: subjects. Lower is finer; a value at the Nyquist frequency of HR cannot be lower."
    absent = [label for label in section.labels if label not in labels]
    note += f" Without a value: {', '.join(absent)}." if absent else ""
    return Plot(name, title, alt, draw, note=note)
