"""What the figures of a report share: pages in light and dark, one colour and mark per method, axes and legends."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.reports.content import Content, Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 160
MARKS = "osD^vPX<>*"


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    name: str
    paper: str
    ink: str
    quiet: str
    faint: str
    methods: tuple[str, ...]


LIGHT = Theme(
    "light",
    "#FFFFFF",
    "#1A1A1A",
    "#5A5A5A",
    "#D9D9D9",
    ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A6A00", "#56B4E9", "#8A8A8A", "#882255"),
)
DARK = Theme(
    "dark",
    "#17191C",
    "#ECECEC",
    "#B4B4B4",
    "#43474C",
    ("#5AB4F0", "#FF8A4C", "#33C79A", "#E7A3CB", "#E6B73C", "#A9DCF7", "#B5B5B5", "#E0709A"),
)
"""Okabe and Ito's colours (2008), darker or lighter where the page asks for it."""


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn, or, with ``missing``, why there is none. ``alt`` says in words what it shows."""

    name: str
    title: str
    alt: str
    draw: Callable[[Theme], Figure] | None = None
    missing: str | None = None
    note: str = ""

    def png(self, theme: Theme) -> bytes:
        """The drawn figure as a PNG file; the same runs give the same bytes."""
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        assert self.draw is not None
        with matplotlib.style.context("default"):
            figure = self.draw(theme)
            file = io.BytesIO()
            FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
        return file.getvalue()


class Styles:
    """Colour and mark of every method of a report."""

    def __init__(self, content: Content) -> None:
        self._index = {label: index for index, label in enumerate(content.labels)}

    def colour(self, label: str, theme: Theme) -> str:
        """The method's colour on that page."""
        return theme.methods[self._index[label] % len(theme.methods)]

    def mark(self, label: str) -> str:
        """The method's mark: tells it apart without colour."""
        return MARKS[self._index[label] % len(MARKS)]


def new_figure(theme: Theme, wide: float, high: float) -> Figure:
    """An empty figure, inches wide and high, on the paper of the theme."""
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, high), dpi=DPI, facecolor=theme.paper, layout="constrained")


def prepare(axes: Any, theme: Theme) -> None:
    """Two spines, a quiet grid behind, and numbers in the theme's ink."""
    axes.set_facecolor(theme.paper)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=theme.quiet, linewidth=0.7)
    axes.tick_params(labelsize=8, length=3, width=0.6, color=theme.quiet, labelcolor=theme.ink)
    axes.grid(color=theme.faint, linewidth=0.5)
    axes.set_axisbelow(True)


def log_axis(axes: Any, ratio: float) -> None:
    """A logarithmic axis with plain numbers; more of them where it spans less."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if ratio > 100 else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, axes: Any, theme: Theme) -> None:
    """The marks of ``axes`` outside the panels, on the right."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside right upper", fontsize=8, frameon=False, labelcolor=theme.ink, handlelength=1.6
    )


def interval_ends(section: Section, label: str, key: str) -> tuple[float, float] | None:
    """How far the interval reaches below and above the mean."""
    summary = section.summaries[label][key]
    if summary["ci95"] is None:
        return None
    low, high = summary["ci95"]
    return max(0.0, summary["mean"] - low), max(0.0, high - summary["mean"])
